// LayerNorm over the channels of maps (rows, chans): a row is some lanes' of a warp.
#pragma once
# include "rows.cuh"

namespace jvan {

// Sums over the `lanes` (a power of two) threads that share a row; all threads of a warp must call it.
__device__ inline float sum_over(float value, int lanes) {
  for (int mask = lanes / 2; mask; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

inline int lanes_of_row(int columns) {
  int lanes = 1;
  while (lanes < 32 && lanes < columns) lanes *= 2;
  return lanes;
}

// Mean and 1 / sqrt(var + eps) of a row, in two passes: the second one reads the cache.
template <int N, bool VECTOR, class T>
__device__ void row_statistics(const T* row, int chans, float eps, int lane, int lanes, float& mean, float& rstd) {
  float sum = 0, squares = 0;
  for (int c = lane * N; c < chans; c += lanes * N) {
    const Floats<N> v = read<N>(row + c, chans - c, VECTOR);
#pragma unroll
    for (int i = 0; i < N; i++) sum += v[i];
  }
  mean = sum_over(sum, lanes) / chans;
  for (int c = lane * N; c < chans; c += lanes * N) {
    const Floats<N> v = read<N>(row + c, chans - c, VECTOR);
#pragma unroll
    for (int i = 0; i < N; i++) squares += (v[i] - mean) * (v[i] - mean);
  }
  rstd = rsqrtf(sum_over(squares, lanes) / chans + eps);
}

template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) layer_norm_kernel(const T* x, const W* weight, const W* bias, T* y, float eps, int lanes, Rows r) {
  const int64_t index = int64_t(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  const bool works = index < r.rows;  // the others take part in the sums of their warp
  const int lane = threadIdx.x % lanes;
  const T* const row = x + (works ? index : 0) * r.chans;
  float mean, rstd;
  row_statistics<N, VECTOR>(row, r.chans, eps, lane, lanes, mean, rstd);
  if (!works) return;
  for (int c = lane * N; c < r.chans; c += lanes * N) {
    const int left = r.chans - c;
    Floats<N> v = read<N>(row + c, left, VECTOR);
    const Floats<N> w = load_some<N>(weight + c, left), b = load_some<N>(bias + c, left);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = (v[i] - mean) * rstd * w[i] + b[i];
    write<N>(y + index * r.chans + c, v, left, VECTOR);
  }
}

// dx = rstd · (g - mean(g) - x̂ · mean(g · x̂)), g = dy · weight; statistics (rows, 2) receives mean and rstd.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
layer_norm_backward_kernel(const T* dy, const T* x, const W* weight, T* dx, float* statistics, float eps, int lanes, Rows r) {
  const int64_t index = int64_t(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  const bool works = index < r.rows;
  const int lane = threadIdx.x % lanes;
  const int64_t start = (works ? index : 0) * r.chans;
  float mean, rstd, sum = 0, products = 0;
  row_statistics<N, VECTOR>(x + start, r.chans, eps, lane, lanes, mean, rstd);
  for (int c = lane * N; c < r.chans; c += lanes * N) {
    const int left = r.chans - c;
    const Floats<N> v = read<N>(x + start + c, left, VECTOR), d = read<N>(dy + start + c, left, VECTOR);
    const Floats<N> w = load_some<N>(weight + c, left);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float g = d[i] * w[i];
      sum += g;
      products += g * (v[i] - mean) * rstd;
    }
  }
  const float of_g = sum_over(sum, lanes) / r.chans, of_products = sum_over(products, lanes) / r.chans;
  if (!works) return;
  if (lane == 0) {
    statistics[2 * index] = mean;
    statistics[2 * index + 1] = rstd;
  }
  for (int c = lane * N; c < r.chans; c += lanes * N) {
    const int left = r.chans - c;
    const Floats<N> v = read<N>(x + start + c, left, VECTOR), w = load_some<N>(weight + c, left);
    Floats<N> d = read<N>(dy + start + c, left, VECTOR);
#pragma unroll
    for (int i = 0; i < N; i++) d[i] = rstd * (d[i] * w[i] - of_g - (v[i] - mean) * rstd * of_products);
    write<N>(dx + start + c, d, left, VECTOR);
  }
}

// Partials of Σ dy and Σ dy · x̂ over all rows, by the rows' statistics.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
layer_norm_sums_kernel(const T* dy, const T* x, const float* statistics, float* partials, Rows r) {
  const Place<N> place(r);
  Floats<N> sums[2] = {zeros<N>(), zeros<N>()};
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    const float mean = statistics[2 * row], rstd = statistics[2 * row + 1];
    const Floats<N> d = read<N>(dy + at, place.left, VECTOR), v = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) {
      sums[0][c] += d[c];
      sums[1][c] += d[c] * ((v[c] - mean) * rstd);
    }
  }
  write_partials<N, 2>(partials, r, place, sums);
}

#define JVAN_LAUNCH_LAYER_NORM(kernel, vector, ...)                                                                            \
  do {                                                                                                                         \
    const int lanes = lanes_of_row(divide_up(r.chans, vector ? Width<T>::value : 1));                                          \
    const int64_t blocks = divide_up(r.rows, 256 / lanes);                                                                     \
    if (vector)                                                                                                                \
      launch(#kernel, kernel<T, W, Width<T>::value, true>, blocks, 256, 0, __VA_ARGS__, lanes, r);                             \
    else                                                                                                                       \
      launch(#kernel, kernel<T, W, 1, false>, blocks, 256, 0, __VA_ARGS__, lanes, r);                                          \
  } while (false)

template <class T, class W> void layer_norm(const T* x, const W* weight, const W* bias, T* y, float eps, Rows r) {
  const bool vector = aligned<T>(r.chans, x, y);
  JVAN_LAUNCH_LAYER_NORM(layer_norm_kernel, vector, x, weight, bias, y, eps);
}

// dweight, dbias (chans); statistics (rows, 2) and partials (slices, 2, chans) are room to work in.
template <class T, class W>
void layer_norm_backward(const T* dy, const T* x, const W* weight, T* dx, W* dweight, W* dbias, float* statistics, float* partials, float eps,
                         Rows r) {
  const bool vector = aligned<T>(r.chans, dy, x, dx);
  JVAN_LAUNCH_LAYER_NORM(layer_norm_backward_kernel, vector, dy, x, weight, dx, statistics, eps);
  JVAN_LAUNCH_ROWS(layer_norm_sums_kernel, vector, 2, r, dy, x, statistics, partials, r);
  add_partials(partials, r.slices, 2 * r.chans, Results<W>{dbias, dweight, r.chans});
}

}  // namespace jvan

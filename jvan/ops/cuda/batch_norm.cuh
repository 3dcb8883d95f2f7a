// BatchNorm over maps (rows, chans): statistics in one pass, normalisation, and both gradients.
#pragma once
# include "rows.cuh"

namespace jvan {

// Count, mean and squared deviations of some values; united as in Chan, Golub, LeVeque (1979), which does not cancel.
struct Moments {
  float count, mean, deviations;

  // Without a branch, so that the loads of several steps of a loop go out together.
  __device__ Moments& operator+=(const Moments& other) {
    const float total = count + other.count, share = other.count / (total > 1 ? total : 1), apart = other.mean - mean;
    mean += apart * share;
    deviations += other.deviations + apart * apart * count * share;
    count = total;
    return *this;
  }
};

// Values are taken relative to the channel's first, so that means far from zero stay exact, and a thread's sums relative to
// the first that it meets, so that one odd value spoils nothing. Partials (slice, 3, channel): count, mean, deviations.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) batch_statistics_kernel(const T* x, float* partials, Rows r) {
  JVAN_DYNAMIC_SHARED(shared);
  const Place<N> place(r);
  const Floats<N> origin = place.left > 0 ? load_some<N>(x + place.channel, place.left) : zeros<N>();
  Floats<N> shift = zeros<N>(), sum = zeros<N>(), squares = zeros<N>();
  float count = 0;
  for (int64_t row = place.row; row < r.rows; row += place.step, count++) {
    Floats<N> v = read<N>(x + row * r.chans + place.channel, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) {
      v[c] -= origin[c];
      if (count == 0) shift[c] = v[c];
      const float d = v[c] - shift[c];
      sum[c] += d;
      squares[c] += d * d;
    }
  }
  Moments* const kept = reinterpret_cast<Moments*>(shared);  // (thread row, lane, channel)
  const int width = place.lanes * N, column_blocks = divide_up(divide_up(r.chans, N), place.lanes);
#pragma unroll
  for (int c = 0; c < N; c++) {
    const float mean = count ? sum[c] / count : 0;
    if (place.thread_row < place.thread_rows)
      kept[place.thread_row * width + int(threadIdx.x % place.lanes) * N + c] = {count, shift[c] + mean, squares[c] - mean * sum[c]};
  }
  add_rows(kept, place.thread_rows, width);
  const int first = int(blockIdx.x % column_blocks) * width, slice = blockIdx.x / column_blocks;
  for (int c = threadIdx.x; c < width && first + c < r.chans; c += blockDim.x) {
    float* const to = partials + int64_t(slice) * 3 * r.chans + first + c;
    to[0] = kept[c].count;
    to[r.chans] = kept[c].mean;
    to[2 * r.chans] = kept[c].deviations;
  }
}

template <class T>
__global__ void __launch_bounds__(REDUCE_THREADS)
unite_moments_kernel(const T* x, const float* partials, float* mean, float* var, int lanes, Rows r) {
  JVAN_DYNAMIC_SHARED(shared);
  Moments* const kept = reinterpret_cast<Moments*>(shared);
  const int shares = REDUCE_THREADS / lanes, lane = threadIdx.x % lanes, channel = int(blockIdx.x) * lanes + lane;
  Moments all = {0, 0, 0};
  if (channel < r.chans)
#pragma unroll 8
    for (int slice = threadIdx.x / lanes; slice < r.slices; slice += shares) {
      const float* from = partials + int64_t(slice) * 3 * r.chans + channel;
      all += {from[0], from[r.chans], from[2 * r.chans]};
    }
  kept[threadIdx.x] = all;
  add_rows(kept, shares, lanes);
  if (threadIdx.x >= lanes || channel >= r.chans) return;
  mean[channel] = to_float(x[channel]) + kept[lane].mean;
  var[channel] = kept[lane].deviations / kept[lane].count;
}

// y = (x - mean) · rstd · weight + bias
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
batch_norm_kernel(const T* x, const float* mean, const float* rstd, const W* weight, const W* bias, T* y, Rows r) {
  const Place<N> place(r);
  const Floats<N> m = load_some<N>(mean + place.channel, place.left), b = load_some<N>(bias + place.channel, place.left);
  Floats<N> scale = load_some<N>(weight + place.channel, place.left);
  const Floats<N> s = load_some<N>(rstd + place.channel, place.left);
#pragma unroll
  for (int c = 0; c < N; c++) scale[c] *= s[c];
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> v = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) v[c] = (v[c] - m[c]) * scale[c] + b[c];
    write<N>(y + at, v, place.left, VECTOR);
  }
}

// Partials of Σ dy and Σ dy · x̂, where x̂ = (x - mean) · rstd.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
batch_norm_sums_kernel(const T* dy, const T* x, const float* mean, const float* rstd, float* partials, Rows r) {
  const Place<N> place(r);
  const Floats<N> m = load_some<N>(mean + place.channel, place.left), s = load_some<N>(rstd + place.channel, place.left);
  Floats<N> sums[2] = {zeros<N>(), zeros<N>()};
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    const Floats<N> d = read<N>(dy + at, place.left, VECTOR), v = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) {
      sums[0][c] += d[c];
      sums[1][c] += d[c] * ((v[c] - m[c]) * s[c]);
    }
  }
  write_partials<N, 2>(partials, r, place, sums);
}

// dx = rstd · weight · (dy - (Σ dy + x̂ · Σ dy·x̂) / rows), the bracket's second term absent where the statistics are constants.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
batch_norm_backward_kernel(const T* dy, const T* x, const float* mean, const float* rstd, const W* weight, const float* sums, T* dx,
                           bool constant, Rows r) {
  const Place<N> place(r);
  const Floats<N> m = load_some<N>(mean + place.channel, place.left), s = load_some<N>(rstd + place.channel, place.left);
  const Floats<N> w = load_some<N>(weight + place.channel, place.left);
  Floats<N> first = load_some<N>(sums + place.channel, place.left);
  Floats<N> second = load_some<N>(sums + r.chans + place.channel, place.left);
  const float share = constant ? 0 : 1 / float(r.rows);
#pragma unroll
  for (int c = 0; c < N; c++) {
    first[c] *= share;
    second[c] *= share * s[c];
  }
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> d = read<N>(dy + at, place.left, VECTOR);
    const Floats<N> v = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) d[c] = s[c] * w[c] * (d[c] - (first[c] + (v[c] - m[c]) * second[c]));
    write<N>(dx + at, d, place.left, VECTOR);
  }
}

// mean, var (chans), var being biased; partials (slices, 3, chans).
template <class T> void batch_statistics(const T* x, float* mean, float* var, float* partials, Rows r) {
  typedef T W;
  JVAN_LAUNCH_ROWS(batch_statistics_kernel, aligned<T>(r.chans, x), 3, r, x, partials, r);
  const int lanes = columns_of_block(r.slices);
  launch("unite_moments", unite_moments_kernel<T>, divide_up(r.chans, lanes), REDUCE_THREADS, REDUCE_THREADS * int64_t(sizeof(Moments)), x,
         partials, mean, var, lanes, r);
}

template <class T, class W>
void batch_norm(const T* x, const float* mean, const float* rstd, const W* weight, const W* bias, T* y, Rows r) {
  JVAN_LAUNCH_ROWS(batch_norm_kernel, aligned<T>(r.chans, x, y), 0, r, x, mean, rstd, weight, bias, y, r);
}

// sums (2, chans): Σ dy, the bias's gradient, and Σ dy·x̂, the weight's; partials (slices, 2, chans).
template <class T, class W>
void batch_norm_backward(const T* dy, const T* x, const float* mean, const float* rstd, const W* weight, T* dx, float* sums, float* partials,
                         bool constant, Rows r) {
  const bool vector = aligned<T>(r.chans, dy, x, dx);
  JVAN_LAUNCH_ROWS(batch_norm_sums_kernel, vector, 2, r, dy, x, mean, rstd, partials, r);
  add_partials(partials, r.slices, 2 * r.chans, Results<float>{sums, sums + r.chans, r.chans});
  JVAN_LAUNCH_ROWS(batch_norm_backward_kernel, vector, 0, r, dy, x, mean, rstd, weight, sums, dx, constant, r);
}

}  // namespace jvan

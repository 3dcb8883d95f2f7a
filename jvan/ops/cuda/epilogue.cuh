// What follows a 1×1 layer's product p, one pass over memory each way: its bias, with GELU, or with the attention's product.
#pragma once
# include "rows.cuh"

namespace jvan {

// y = p + b, or its GELU
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) bias_kernel(const T* p, const W* b, T* y, bool with_gelu, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left);
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    Floats<N> v = read<N>(p + row * r.chans + place.channel, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) v[c] = with_gelu ? gelu(v[c] + bias[c]) : v[c] + bias[c];
    write<N>(y + row * r.chans + place.channel, v, place.left, VECTOR);
  }
}

// dp = dy · gelu'(p + b), or dy, which is not written, where p is null; partials, unless null, of db = Σ dp. A null b is 0.
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) bias_backward_kernel(const T* dy, const T* p, const W* b, T* dp, float* partials, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = b ? load_some<N>(b + place.channel, place.left) : zeros<N>();
  Floats<N> sums[1] = {zeros<N>()};
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> d = read<N>(dy + at, place.left, VECTOR);
    if (p) {
      const Floats<N> v = read<N>(p + at, place.left, VECTOR);
#pragma unroll
      for (int c = 0; c < N; c++) d[c] *= gelu_derivative(v[c] + bias[c]);
      write<N>(dp + at, d, place.left, VECTOR);
    }
#pragma unroll
    for (int c = 0; c < N; c++) sums[0][c] += d[c];
  }
  if (partials) write_partials<N, 1>(partials, r, place, sums);
}

// y = (p + b) · u
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) bias_gate_kernel(const T* p, const W* b, const T* u, T* y, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left);
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> v = read<N>(p + at, place.left, VECTOR);
    const Floats<N> gate = read<N>(u + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) v[c] = (v[c] + bias[c]) * gate[c];
    write<N>(y + at, v, place.left, VECTOR);
  }
}

// dp = dy · u, du = dy · (p + b), partials of db = Σ dp
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
bias_gate_backward_kernel(const T* dy, const T* p, const W* b, const T* u, T* dp, T* du, float* partials, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left);
  Floats<N> sums[1] = {zeros<N>()};
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> v = read<N>(p + at, place.left, VECTOR), gate = read<N>(u + at, place.left, VECTOR);
    const Floats<N> d = read<N>(dy + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) {
      gate[c] *= d[c];
      v[c] = (v[c] + bias[c]) * d[c];
      sums[0][c] += gate[c];
    }
    write<N>(dp + at, gate, place.left, VECTOR);
    write<N>(du + at, v, place.left, VECTOR);
  }
  write_partials<N, 1>(partials, r, place, sums);
}

// All maps (rows, chans); b, db (chans); partials (slices, 1, chans) is room to work in.
template <class T, class W> void bias(const T* p, const W* b, T* y, bool with_gelu, Rows r) {
  JVAN_LAUNCH_ROWS(bias_kernel, aligned<T>(r.chans, p, y), 0, r, p, b, y, with_gelu, r);
}

template <class T, class W> void bias_backward(const T* dy, const T* p, const W* b, T* dp, W* db, float* partials, Rows r) {
  JVAN_LAUNCH_ROWS(bias_backward_kernel, aligned<T>(r.chans, dy, p, dp), 1, r, dy, p, b, dp, partials, r);
  if (partials) add_partials(partials, r.slices, r.chans, Results<W>{db, nullptr, r.chans});
}

template <class T, class W> void bias_gate(const T* p, const W* b, const T* u, T* y, Rows r) {
  JVAN_LAUNCH_ROWS(bias_gate_kernel, aligned<T>(r.chans, p, u, y), 0, r, p, b, u, y, r);
}

template <class T, class W>
void bias_gate_backward(const T* dy, const T* p, const W* b, const T* u, T* dp, T* du, W* db, float* partials, Rows r) {
  JVAN_LAUNCH_ROWS(bias_gate_backward_kernel, aligned<T>(r.chans, dy, p, u, dp, du), 1, r, dy, p, b, u, dp, du, partials, r);
  add_partials(partials, r.slices, r.chans, Results<W>{db, nullptr, r.chans});
}

}  // namespace jvan

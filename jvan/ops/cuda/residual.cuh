// The end of a half block: the last product's bias, an inner shortcut, layer scale, drop path and the residual in one pass.
#pragma once
# include "rows.cuh"

namespace jvan {

// y = x + keep[picture] · s · (p + b + inner), without `inner` where it is null
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
residual_kernel(const T* p, const W* b, const T* inner, const W* s, const float* keep, const T* x, T* y, int64_t pixels, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left), scale = load_some<N>(s + place.channel, place.left);
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    const float factor = keep[row / pixels];
    Floats<N> v = read<N>(p + at, place.left, VECTOR);
    const Floats<N> more = inner ? read<N>(inner + at, place.left, VECTOR) : zeros<N>();
    const Floats<N> base = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) v[c] = base[c] + factor * scale[c] * (v[c] + bias[c] + more[c]);
    write<N>(y + at, v, place.left, VECTOR);
  }
}

// dp = keep · s · dy, which is inner's gradient too; partials of db = Σ dp and of ds = Σ keep · dy · (p + b + inner)
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256)
residual_backward_kernel(const T* dy, const T* p, const W* b, const T* inner, const W* s, const float* keep, T* dp, float* partials,
                         int64_t pixels, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left), scale = load_some<N>(s + place.channel, place.left);
  Floats<N> sums[2] = {zeros<N>(), zeros<N>()};
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    const float factor = keep[row / pixels];
    const Floats<N> v = read<N>(p + at, place.left, VECTOR);
    const Floats<N> more = inner ? read<N>(inner + at, place.left, VECTOR) : zeros<N>();
    Floats<N> d = read<N>(dy + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) {
      d[c] *= factor;
      sums[1][c] += d[c] * (v[c] + bias[c] + more[c]);
      d[c] *= scale[c];
      sums[0][c] += d[c];
    }
    write<N>(dp + at, d, place.left, VECTOR);
  }
  write_partials<N, 2>(partials, r, place, sums);
}

// y = s · x + p + b, all that is left of it where BatchNorm and layer scale are folded into the products; a null s is 1
template <class T, class W, int N, bool VECTOR>
__global__ void __launch_bounds__(256) shortcut_kernel(const T* p, const W* b, const W* s, const T* x, T* y, Rows r) {
  const Place<N> place(r);
  const Floats<N> bias = load_some<N>(b + place.channel, place.left);
  Floats<N> scale = zeros<N>();
  if (s) scale = load_some<N>(s + place.channel, place.left);
  for (int64_t row = place.row; row < r.rows; row += place.step) {
    const int64_t at = row * r.chans + place.channel;
    Floats<N> v = read<N>(p + at, place.left, VECTOR);
    const Floats<N> base = read<N>(x + at, place.left, VECTOR);
#pragma unroll
    for (int c = 0; c < N; c++) v[c] += bias[c] + (s ? scale[c] * base[c] : base[c]);
    write<N>(y + at, v, place.left, VECTOR);
  }
}

// Maps (rows, chans), `pixels` rows a picture; b, s, db, ds (chans); keep (pictures); partials (slices, 2, chans).
template <class T, class W>
void residual(const T* p, const W* b, const T* inner, const W* s, const float* keep, const T* x, T* y, int64_t pixels, Rows r) {
  JVAN_LAUNCH_ROWS(residual_kernel, aligned<T>(r.chans, p, inner, x, y), 0, r, p, b, inner, s, keep, x, y, pixels, r);
}

template <class T, class W>
void residual_backward(const T* dy, const T* p, const W* b, const T* inner, const W* s, const float* keep, T* dp, W* db, W* ds,
                       float* partials, int64_t pixels, Rows r) {
  JVAN_LAUNCH_ROWS(residual_backward_kernel, aligned<T>(r.chans, dy, p, inner, dp), 2, r, dy, p, b, inner, s, keep, dp, partials, pixels, r);
  add_partials(partials, r.slices, 2 * r.chans, Results<W>{db, ds, r.chans});
}

template <class T, class W> void shortcut(const T* p, const W* b, const W* s, const T* x, T* y, Rows r) {
  JVAN_LAUNCH_ROWS(shortcut_kernel, aligned<T>(r.chans, p, x, y), 0, r, p, b, s, x, y, r);
}

}  // namespace jvan

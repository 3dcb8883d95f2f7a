// The patches that a strided K×K convolution reads as the rows of a matrix, and the way back: both as gathers, so that no
// two threads write to one place. A block works at one picture, within which an index has 32 bits: a 64-bit division is a
// long routine, and the stem, of three channels, would wait for divisions, not for memory.
#pragma once
# include "device.cuh"

namespace jvan {

// `columns` of a row: size · size · chans, and zeros after them where that is no multiple of what the products read at once.
struct Patches {
  int height, width, chans, out_height, out_width, columns, size, stride, padding;
};

// matrix (batch · out_height · out_width, columns); pixels outside of the map are 0. A thread writes N neighbours of a row:
// of one pixel where VECTOR, so that one load reads them.
template <class T, int N, bool VECTOR>
__global__ void __launch_bounds__(256) gather_patches_kernel(const T* x, T* matrix, Patches s, int count, int blocks) {
  const int picture = int(blockIdx.x) / blocks, i = (int(blockIdx.x) - picture * blocks) * 256 + int(threadIdx.x);
  if (i >= count) return;
  const int per_row = s.columns / N, row = i / per_row, at = (i - row * per_row) * N, out_row = row / s.out_width;
  // A patch's row lies together in the map as it does in the matrix: `line` elements from `left` on, cut off at the map's edges.
  const int line = s.size * s.chans, left = ((row - out_row * s.out_width) * s.stride - s.padding) * s.chans, end = s.width * s.chans;
  int tap = at / line, from = left + at - tap * line;
  const T* const map = x + int64_t(picture) * s.height * end;
  Pack<T, N> values;
#pragma unroll
  for (int c = 0; c < N; c++) values.at[c] = from_float<T>(0);
#pragma unroll
  for (int c = 0; c < (VECTOR ? 1 : N); c++) {
    const int h = out_row * s.stride - s.padding + tap;
    const bool inside = tap < s.size && h >= 0 && h < s.height && from >= 0 && from < end;
    if (inside && VECTOR) values = *packed<N>(map + int64_t(h) * end + from);
    if (inside && !VECTOR) values.at[c] = map[int64_t(h) * end + from];
    if (++from == left + line) from = left, tap++;
  }
  *packed<N>(matrix + (int64_t(picture) * count + i) * N) = values;
}

// dx: each pixel's sum over the patches that hold it.
template <class T, int N>
__global__ void __launch_bounds__(256) add_patches_kernel(const T* matrix, T* dx, Patches s, int count, int blocks) {
  const int picture = int(blockIdx.x) / blocks, i = (int(blockIdx.x) - picture * blocks) * 256 + int(threadIdx.x);
  if (i >= count) return;
  const int per_pixel = s.chans / N, pixel = i / per_pixel, line = pixel / s.width;
  const int channel = (i - pixel * per_pixel) * N, w = pixel - line * s.width + s.padding, h = line + s.padding;
  const T* const rows = matrix + int64_t(picture) * s.out_height * s.out_width * s.columns + channel;
  Floats<N> sum = zeros<N>();
  // Of the rows of taps only those at h mod stride fall on a patch; likewise the columns.
  for (int up = h % s.stride; up < s.size && up <= h; up += s.stride) {
    const int out_row = (h - up) / s.stride;
    if (out_row >= s.out_height) continue;
    for (int back = w % s.stride; back < s.size && back <= w; back += s.stride) {
      const int out_column = (w - back) / s.stride;
      if (out_column >= s.out_width) continue;
      const Floats<N> v = load<N>(rows + int64_t(out_row * s.out_width + out_column) * s.columns + (up * s.size + back) * s.chans);
#pragma unroll
      for (int c = 0; c < N; c++) sum[c] += v[c];
    }
  }
  store<N>(dx + (int64_t(picture) * count + i) * N, sum);
}

// Elements of a picture, in vectors of `wide`, as an index counts them.
inline int count_of(int64_t rows, int64_t columns, int wide) {
  if (rows * columns > 0x7fffff00) throw std::invalid_argument("patches: a picture is too large");
  return int(rows * columns / wide);
}

// x (batch, height, width, chans)
template <class T> void gather_patches(const T* x, T* matrix, int64_t batch, Patches s) {
  const int wide = Width<T>::value;
  const auto run = [&](void (*kernel)(const T*, T*, Patches, int, int), int width) {
    const int count = count_of(int64_t(s.out_height) * s.out_width, s.columns, width), blocks = divide_up(count, 256);
    launch("gather_patches", kernel, batch * blocks, 256, 0, x, matrix, s, count, blocks);
  };
  if (!aligned<T>(s.columns, matrix))
    run(gather_patches_kernel<T, 1, false>, 1);
  else if (aligned<T>(s.chans, x))
    run(gather_patches_kernel<T, Width<T>::value, true>, wide);
  else
    run(gather_patches_kernel<T, Width<T>::value, false>, wide);
}

template <class T> void add_patches(const T* matrix, T* dx, int64_t batch, Patches s) {
  const int wide = aligned<T>(s.chans, dx, matrix) && aligned<T>(s.columns) ? Width<T>::value : 1;
  const int count = count_of(int64_t(s.height) * s.width, s.chans, wide), blocks = divide_up(count, 256);
  const auto kernel = wide > 1 ? add_patches_kernel<T, Width<T>::value> : add_patches_kernel<T, 1>;
  launch("add_patches", kernel, batch * blocks, 256, 0, matrix, dx, s, count, blocks);
}

}  // namespace jvan

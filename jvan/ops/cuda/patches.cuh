// The patches that a strided K×K convolution reads as the rows of a matrix, and the way back: both as gathers, so that no
// two threads write to one place.
#pragma once
# include "device.cuh"

namespace jvan {

struct Patches {
  int batch, height, width, chans, out_height, out_width, size, stride, padding;
};

// matrix (batch · out_height · out_width, size · size · chans); pixels outside of the map are 0. A thread copies N channels.
template <class T, int N>
__global__ void __launch_bounds__(256) gather_patches_kernel(const T* x, T* matrix, Patches s, int64_t count) {
  const int per_pixel = s.chans / N, taps = s.size * s.size;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t pixel = i / per_pixel, row = pixel / taps, line = row / s.out_width;
    const int channel = int(i - pixel * per_pixel) * N, tap = int(pixel - row * taps);
    const int picture = int(line / s.out_height), out_row = int(line - int64_t(picture) * s.out_height);
    const int h = out_row * s.stride - s.padding + tap / s.size;
    const int w = int(row - line * s.out_width) * s.stride - s.padding + tap % s.size;
    Pack<T, N> values;
#pragma unroll
    for (int c = 0; c < N; c++) values.at[c] = from_float<T>(0);
    if (h >= 0 && h < s.height && w >= 0 && w < s.width)
      values = *packed<N>(x + ((int64_t(picture) * s.height + h) * s.width + w) * s.chans + channel);
    *packed<N>(matrix + i * N) = values;
  }
}

// dx: each pixel's sum over the patches that hold it.
template <class T, int N>
__global__ void __launch_bounds__(256) add_patches_kernel(const T* matrix, T* dx, Patches s, int64_t count) {
  const int per_pixel = s.chans / N, taps = s.size * s.size;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t pixel = i / per_pixel, line = pixel / s.width;
    const int channel = int(i - pixel * per_pixel) * N, w = int(pixel - line * s.width) + s.padding;
    const int picture = int(line / s.height), h = int(line - int64_t(picture) * s.height) + s.padding;
    Floats<N> sum = zeros<N>();
    // Of the rows of taps only those at h mod stride fall on a patch; likewise the columns.
    for (int up = h % s.stride; up < s.size && up <= h; up += s.stride) {
      const int out_row = (h - up) / s.stride;
      if (out_row >= s.out_height) continue;
      for (int back = w % s.stride; back < s.size && back <= w; back += s.stride) {
        const int out_column = (w - back) / s.stride;
        if (out_column >= s.out_width) continue;
        const int64_t row = (int64_t(picture) * s.out_height + out_row) * s.out_width + out_column;
        const Floats<N> v = load<N>(matrix + (row * taps + up * s.size + back) * s.chans + channel);
#pragma unroll
        for (int c = 0; c < N; c++) sum[c] += v[c];
      }
    }
    store<N>(dx + i * N, sum);
  }
}

inline int64_t blocks_for(int64_t count) { return count > 256 * int64_t(65536) ? 65536 : divide_up(count, 256); }

template <class T> void gather_patches(const T* x, T* matrix, Patches s) {
  const int64_t count = int64_t(s.batch) * s.out_height * s.out_width * s.size * s.size * s.chans;
  const int wide = Width<T>::value;
  if (aligned<T>(s.chans, x, matrix))
    launch("gather_patches", gather_patches_kernel<T, Width<T>::value>, blocks_for(count / wide), 256, 0, x, matrix, s, count / wide);
  else
    launch("gather_patches", gather_patches_kernel<T, 1>, blocks_for(count), 256, 0, x, matrix, s, count);
}

template <class T> void add_patches(const T* matrix, T* dx, Patches s) {
  const int64_t count = int64_t(s.batch) * s.height * s.width * s.chans;
  const int wide = Width<T>::value;
  if (aligned<T>(s.chans, dx, matrix))
    launch("add_patches", add_patches_kernel<T, Width<T>::value>, blocks_for(count / wide), 256, 0, matrix, dx, s, count / wide);
  else
    launch("add_patches", add_patches_kernel<T, 1>, blocks_for(count), 256, 0, matrix, dx, s, count);
}

}  // namespace jvan

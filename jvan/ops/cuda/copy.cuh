// Copies: a kernel's at the full width of memory, and the driver's own. The faster is what other kernels' bandwidth is measured against.
#pragma once
# include "device.cuh"

namespace jvan {

template <class T> __global__ void __launch_bounds__(256) copy_kernel(const T* from, T* to, int64_t count) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    *packed<Width<T>::value>(to + i * Width<T>::value) = *packed<Width<T>::value>(from + i * Width<T>::value);
}

// Whole vectors alone: what is left over at the end is not copied.
template <class T> void copy(const T* from, T* to, int64_t count) {
  const int64_t vectors = count / Width<T>::value;
  launch("copy", copy_kernel<T>, divide_up(vectors, 256) < 8192 ? divide_up(vectors, 256) : 8192, 256, 0, from, to, vectors);
}

template <class T> void driver_copy(const T* from, T* to, int64_t count) {
  check(cudaMemcpyAsync(to, from, size_t(count) * sizeof(T), cudaMemcpyDeviceToDevice, 0), "driver_copy");
}

}  // namespace jvan

// What every kernel here needs: storage types with float32 arithmetic, vector loads, launches with their errors.
// The same text is compiled by nvcc and, against emulator.h, by a C++ compiler: the tests run the kernels on the host.
#pragma once
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define JVAN_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
# include <emulator.h>  // by the emulator alone, which says where it lies
#endif

namespace jvan {

#ifdef __CUDACC__
typedef __half half_t;
typedef __nv_bfloat16 bfloat16_t;

__device__ inline void must_be_aligned(const void*, unsigned) {}  // the device faults; the emulator says so
#endif

__host__ __device__ inline int divide_up(int64_t a, int64_t b) { return int((a + b - 1) / b); }

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(half_t v) { return __half2float(v); }
__device__ inline float to_float(bfloat16_t v) { return __bfloat162float(v); }
template <class T> __device__ T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline half_t from_float<half_t>(float v) { return __float2half_rn(v); }
template <> __device__ inline bfloat16_t from_float<bfloat16_t>(float v) { return __float2bfloat16_rn(v); }

// N neighbours in memory, read or written by one instruction; its address must be a multiple of its size.
template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

// N neighbours as float32.
template <int N> struct Floats {
  float at[N];
  __device__ float& operator[](int i) { return at[i]; }
  __device__ const float& operator[](int i) const { return at[i]; }
};

template <int N> __device__ Floats<N> zeros() {
  Floats<N> values;
#pragma unroll
  for (int i = 0; i < N; i++) values[i] = 0;
  return values;
}

template <int N, class T> __device__ Pack<T, N>* packed(T* pointer) {
  must_be_aligned(pointer, sizeof(Pack<T, N>));
  return reinterpret_cast<Pack<T, N>*>(pointer);
}
template <int N, class T> __device__ const Pack<T, N>* packed(const T* pointer) {
  must_be_aligned(pointer, sizeof(Pack<T, N>));
  return reinterpret_cast<const Pack<T, N>*>(pointer);
}

template <int N, class T> __device__ Floats<N> load(const T* from) {
  const Pack<T, N> pack = *packed<N>(from);
  Floats<N> values;
#pragma unroll
  for (int i = 0; i < N; i++) values[i] = to_float(pack.at[i]);
  return values;
}

template <int N, class T> __device__ void store(T* to, const Floats<N>& values) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; i++) pack.at[i] = from_float<T>(values[i]);
  *packed<N>(to) = pack;
}

// The same for pointers of any alignment, and the first `count` alone.
template <int N, class T> __device__ Floats<N> load_some(const T* from, int count) {
  Floats<N> values = zeros<N>();
#pragma unroll
  for (int i = 0; i < N; i++)
    if (i < count) values[i] = to_float(from[i]);
  return values;
}

template <int N, class T> __device__ void store_some(T* to, const Floats<N>& values, int count) {
#pragma unroll
  for (int i = 0; i < N; i++)
    if (i < count) to[i] = from_float<T>(values[i]);
}

// How many T one 128-bit access moves.
template <class T> struct Width { static const int value = 16 / sizeof(T); };

// Whether rows of `chans` that begin at these addresses can be read 128 bits at a time.
template <class T> bool aligned(int64_t chans) { return chans % Width<T>::value == 0; }
template <class T, class P, class... Q> bool aligned(int64_t chans, const P* first, const Q*... others) {
  return reinterpret_cast<uintptr_t>(first) % 16 == 0 && aligned<T>(chans, others...);
}

// 16 bytes from global to shared memory, without a stay in registers from sm_80 on; seen after wait_for_copies and a barrier.
__device__ inline void copy_16_bytes(void* shared, const void* global) {
  must_be_aligned(shared, 16);
  must_be_aligned(global, 16);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#else
  *static_cast<Pack<float, 4>*>(shared) = *static_cast<const Pack<float, 4>*>(global);
#endif
}

__device__ inline void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

__device__ inline float gelu(float x) { return 0.5f * x * (1 + erff(x * 0.70710678f)); }

__device__ inline float gelu_derivative(float x) {
  return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

#ifdef __CUDACC__
inline void check(cudaError_t error, const char* name) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else the next launch would find this error and take it for its own
  throw std::runtime_error(std::string("jvan's CUDA kernel ") + name + ": " + cudaGetErrorString(error));
}

// Bytes of shared memory that a block may ask for on this device.
inline int64_t shared_limit() {
  static const int limit = [] {
    int device = 0, bytes = 0;
    check(cudaGetDevice(&device), "shared_limit");
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "shared_limit");
    return bytes;
  }();
  return limit;
}

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), int64_t blocks, int threads, int64_t shared, A... args) {
  if (blocks == 0) return;
  cudaGetLastError();  // of somebody else's call
  if (shared > 48 * 1024)  // more than that must be asked for
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)),
          name);
  kernel<<<dim3(unsigned(blocks)), dim3(unsigned(threads)), size_t(shared)>>>(args...);
  check(cudaGetLastError(), name);
}
#endif

}  // namespace jvan

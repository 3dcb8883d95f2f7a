// CUB 3 (CUDA 13) without the names that Jittor's `where`, `softmax` and depthwise convolution still use.
#pragma once
#include_next <cub/cub.cuh>
#if CUB_VERSION >= 300000 && defined(__CUDACC__)
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace cub {

template <class Value, class Offset = ptrdiff_t>
using CountingInputIterator = thrust::counting_iterator<Value>;

template <class Value, class Function, class Iterator, class Offset = ptrdiff_t>
using TransformInputIterator = thrust::transform_iterator<Function, Iterator, Value>;

struct Max {
    template <class T>
    __host__ __device__ T operator()(const T& a, const T& b) const { return b > a ? b : a; }
};

struct Min {
    template <class T>
    __host__ __device__ T operator()(const T& a, const T& b) const { return b < a ? b : a; }
};

struct Sum {
    template <class T>
    __host__ __device__ T operator()(const T& a, const T& b) const { return a + b; }
};

__device__ inline unsigned int LaneId() {
    unsigned int lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

}  // namespace cub
#endif

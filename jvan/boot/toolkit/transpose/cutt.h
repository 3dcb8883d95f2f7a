// The three functions of cuTT 1.2 that Jittor's transpose calls. Sizes and permutation are fastest axis first;
// axis i of the output is axis permutation[i] of the input. 0 is success.
#pragma once
#include <cuda_runtime.h>

typedef unsigned int cuttHandle;
typedef int cuttResult;

cuttResult cuttPlan(cuttHandle* handle, int rank, int* sizes, int* permutation, size_t bytes, cudaStream_t stream);
cuttResult cuttExecute(cuttHandle handle, void* input, void* output);
cuttResult cuttDestroy(cuttHandle handle);

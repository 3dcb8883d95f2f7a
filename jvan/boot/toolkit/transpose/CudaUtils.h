// Jittor stores its allocator in these, as cuTT had it; the transpose here allocates nothing.
#pragma once
#include <cstddef>

extern void (*custom_cuda_malloc)(void** pointer, size_t bytes, size_t& allocation);
extern void (*custom_cuda_free)(void* pointer, size_t bytes, size_t& allocation);

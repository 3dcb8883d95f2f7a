// Elementwise operators on whole arrays.
#pragma once

# include "arguments.h"
# include "vector.h"

#include <algorithm>

namespace jvan {
namespace {

// Calls f(offset, lanes) for each vector of an array, on all threads; only the last can have fewer than LANES.
template <class F>
inline void for_each_vector(int64_t count, F f) {
    const int64_t block = 4096, blocks = (count + block - 1) / block;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t end = std::min((b + 1) * block, count);
        int64_t i = b * block;
        for (; i + LANES <= end; i += LANES) f(i, LANES);
        if (i < end) f(i, int(end - i));
    }
}

inline void gelu_array(int64_t count, const float* x, float* y) {
    for_each_vector(count, [=](int64_t i, int lanes) { store_tail(y + i, gelu(load_tail(x + i, lanes)), lanes); });
}

struct GeluBackward {
    Input x, dy;
    Output dx;
};

inline void gelu_array_backward(int64_t count, const GeluBackward& args) {
    const float *x = args.x, *dy = args.dy;
    float* dx = args.dx;
    for_each_vector(count, [=](int64_t i, int lanes) {
        store_tail(dx + i, load_tail(dy + i, lanes) * gelu_derivative(load_tail(x + i, lanes)), lanes);
    });
}

}  // namespace
}  // namespace jvan

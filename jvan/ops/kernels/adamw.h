// AdamW: one pass over a parameter, its gradient and its moments.
#pragma once

# include "arguments.h"
# include "vector.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace jvan {
namespace {

// 1 - learning rate · weight decay; the moments' β and 1 - β; 1 / √(1 - β₂ᵗ); ε; learning rate / (1 - β₁ᵗ).
struct Rates {
    float decay, beta1, rest1, beta2, rest2, root, eps, rate;
};

// To an array that the next step reads: there are too many for a cache.
inline void store_block(const float* from, int64_t count, float* to) {
    int64_t i = 0;
    if (reinterpret_cast<uintptr_t>(to) % sizeof(vec) == 0)
        for (; i + LANES <= count; i += LANES) store_past_caches(to + i, load(from + i));
    std::copy(from + i, from + count, to + i);
}

struct AdamW {
    Input value, gradient, mean, square, numbers;  // numbers: those of Rates
    Output new_value, new_mean, new_square;
};

inline void adamw(int64_t count, const AdamW& args) {
    const float *value = args.value, *gradient = args.gradient, *mean = args.mean, *square = args.square, *numbers = args.numbers;
    const Rates r = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7]};
    constexpr int64_t SPAN = 1024;
    const int64_t blocks = (count + SPAN - 1) / SPAN;
#pragma omp parallel if (blocks > 4)
    {
        float v[SPAN], m[SPAN], s[SPAN];
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t at = b * SPAN, some = std::min(SPAN, count - at);
            for (int64_t i = 0; i < some; i++) {
                const float g = gradient[at + i];
                m[i] = mean[at + i] * r.beta1 + g * r.rest1;
                s[i] = square[at + i] * r.beta2 + g * g * r.rest2;
                v[i] = value[at + i] * r.decay - m[i] / (std::sqrt(s[i]) * r.root + r.eps) * r.rate;
            }
            store_block(v, some, args.new_value + at);
            store_block(m, some, args.new_mean + at);
            store_block(s, some, args.new_square + at);
        }
        std::atomic_thread_fence(std::memory_order_seq_cst);  // after store_past_caches
    }
}

}  // namespace
}  // namespace jvan

// Pairs of bfloat16: two neighbouring values of a row, the first in the lower half of a 32-bit word.
//
// A word of activations times a word of weights adds both products to a float32 sum: one instruction where the processor has
// AVX512-BF16, two float32 multiply-adds of the rounded values elsewhere.
#pragma once

# include "vector.h"

#if defined(__AVX512BF16__) && JVAN_VECTOR_BYTES == 64
#include <immintrin.h>
#define JVAN_BFLOAT16_UNITS 1
#else
#define JVAN_BFLOAT16_UNITS 0
#endif

namespace jvan {
namespace {

// A word's bits need not be a float's: they never pass through float arithmetic.
JVAN_INLINE ivec splat_pair(const float* word) {
    int32_t bits;
    std::memcpy(&bits, word, sizeof bits);
    return ivec{} + bits;
}

JVAN_INLINE vec add_products(vec sum, ivec values, vec weights) {
#if JVAN_BFLOAT16_UNITS
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)values);
#else
    const int32_t upper = int32_t(0xffff0000);
    const ivec pairs = (ivec)weights;
    return sum + (vec)(values << 16) * (vec)(pairs << 16) + (vec)(values & upper) * (vec)(pairs & upper);
#endif
}

// To the nearest, ties to even; `count` is even.
inline void round_to_pairs(const float* from, int count, float* words) {
    int i = 0;
#if JVAN_BFLOAT16_UNITS
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        const auto pairs = _mm512_cvtne2ps_pbh((__m512)load(from + i + LANES), (__m512)load(from + i));
        std::memcpy(words + i / 2, &pairs, sizeof pairs);
    }
#endif
    for (; i < count; i += 2) {
        uint32_t bits[2];
        std::memcpy(bits, from + i, sizeof bits);
        for (uint32_t& b : bits) b += 0x7fff + (b >> 16 & 1);
        const uint32_t word = bits[0] >> 16 | (bits[1] & 0xffff0000);
        std::memcpy(words + i / 2, &word, sizeof word);
    }
}

// gelu(x) for values that are then rounded to bfloat16: as vector.h's, on [0, 4.2], error below 2e-4.
JVAN_INLINE vec rough_gelu(vec x) {
    constexpr float minimax[] = {3.741775453090668e-02f,   -7.487761229276657e-02f, 5.3981754928827286e-02f,
                                 -5.126175470650196e-03f,  -1.5253288671374321e-02f, 7.560949772596359e-03f,
                                 -1.0125057451659814e-04f, -5.784434393759966e-04f,  7.900529453763738e-05f};
    vec size = (vec)((ivec)x & 0x7fffffff);
    return vmax(x, vec{}) - polynomial(minimax, vmin(size, splat(4.2f)) - 2.1f);
}

}  // namespace
}  // namespace jvan

// Vectors of floats through the compiler's vector extensions (GCC 9 or Clang, C++14): one source for AVX-512, AVX2 and
// 128-bit machines. -DJVAN_VECTOR_BYTES=16, 32 or 64 overrides the width.
//
// Everything lies in an anonymous namespace: each operator is one translation unit in a library of its own, and shares
// no symbol with operators compiled for another width.
#pragma once

#include <cstdint>
#include <cstring>

#ifndef JVAN_VECTOR_BYTES
#if defined(__AVX512F__)
#define JVAN_VECTOR_BYTES 64
#elif defined(__AVX__)
#define JVAN_VECTOR_BYTES 32
#else
#define JVAN_VECTOR_BYTES 16
#endif
#endif

#define JVAN_INLINE inline __attribute__((always_inline))

namespace jvan {
namespace {

constexpr int LANES = JVAN_VECTOR_BYTES / sizeof(float);
// Vector registers, which a kernel's sums have to fit into. AVX-512 has 32; shorter vectors on such a processor, which
// only a test asks for, get the 16 that they have elsewhere.
#if (defined(__AVX512F__) && JVAN_VECTOR_BYTES == 64) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

typedef float vec __attribute__((vector_size(JVAN_VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(JVAN_VECTOR_BYTES)));
// The same vector at any address that a float may have.
typedef float unaligned_vec __attribute__((vector_size(JVAN_VECTOR_BYTES), aligned(4), may_alias));

JVAN_INLINE vec splat(float value) { return vec{} + value; }
JVAN_INLINE vec load(const float* from) { return *reinterpret_cast<const unaligned_vec*>(from); }
JVAN_INLINE void store(float* to, vec value) { *reinterpret_cast<unaligned_vec*>(to) = value; }

// Past the caches, for what is not read again soon: to addresses that are multiples of a vector. What follows on another
// thread needs a fence before it.
JVAN_INLINE void store_past_caches(float* to, vec value) {
#if defined(__clang__)
    __builtin_nontemporal_store(value, reinterpret_cast<vec*>(to));
#elif defined(__AVX512F__) && JVAN_VECTOR_BYTES == 64
    __builtin_ia32_movntps512(to, value);
#elif defined(__AVX__) && JVAN_VECTOR_BYTES == 32
    __builtin_ia32_movntps256(to, value);
#else
    store(to, value);
#endif
}

// Copies count < LANES floats in pieces of constant size, which a loop or a memcpy of unknown length would not be.
JVAN_INLINE void copy_tail(float* to, const float* from, int count) {
#pragma GCC unroll 4
    for (int piece = LANES / 2; piece >= 1; piece /= 2) {
        if (count & piece) {
            std::memcpy(to, from, piece * sizeof(float));
            to += piece, from += piece;
        }
    }
}

// The first `count` lanes, 1 <= count <= LANES, from or to memory; nothing past them is touched. Other lanes load as 0.
JVAN_INLINE vec load_tail(const float* from, int count) {
    if (count == LANES) return load(from);
    vec value = {};
    copy_tail(reinterpret_cast<float*>(&value), from, count);
    return value;
}
JVAN_INLINE void store_tail(float* to, vec value, int count) {
    if (count == LANES) return store(to, value);
    copy_tail(to, reinterpret_cast<const float*>(&value), count);
}

JVAN_INLINE vec vmin(vec a, vec b) { return a < b ? a : b; }
JVAN_INLINE vec vmax(vec a, vec b) { return a > b ? a : b; }
JVAN_INLINE vec clamp(vec x, float low, float high) { return vmin(vmax(x, splat(low)), splat(high)); }

JVAN_INLINE float sum_lanes(vec x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

// coefficients[0] + coefficients[1]·t + …
template <int N>
JVAN_INLINE vec polynomial(const float (&coefficients)[N], vec t) {
    vec sum = splat(coefficients[N - 1]);
#pragma GCC unroll 32
    for (int i = N - 2; i >= 0; i--) sum = sum * t + coefficients[i];
    return sum;
}

// 2^x for x clamped to [-126, 127]; relative error below 2e-7.
JVAN_INLINE vec exp2(vec x) {
    constexpr float minimax[] = {1.0000001192092896f, 0.6931469440460205f,    0.24022120237350464f,
                                     0.05550713092088699f, 0.009675541892647743f, 0.0013276520185172558f};
    x = clamp(x, -126.0f, 127.0f);
    // Rounded through integers: under -Ofast the compiler cancels a large number that is added and taken away.
    ivec exponent = __builtin_convertvector(x + 127.5f, ivec);
    vec fraction = x - __builtin_convertvector(exponent - 127, vec);
    ivec bits = exponent << 23;
    return polynomial(minimax, fraction) * (vec)bits;  // the same bits
}

// e^x for x clamped to [-87, 88]; relative error below 3e-7 near 0, 4e-6 at the ends (that of x/ln 2).
JVAN_INLINE vec exp(vec x) { return exp2(x * 1.4426950408889634f); }

// x·Φ(x) = max(x, 0) - h(|x|) with h(a) = a·(1 - Φ(a)): a polynomial on [0, 5.3], minimax for the absolute error, which
// stays below 4e-7; h is 0 beyond. It is centred at 2.65 because in powers of |x| itself the rounding of float32 costs a
// thousand times the error.
JVAN_INLINE vec gelu(vec x) {
    constexpr float minimax[] = {1.066518947482109e-02f,   -2.754317596554756e-02f, 2.9913928359746933e-02f,
                                 -1.5899658203125e-02f,    2.0663198083639145e-03f, 2.6073928456753492e-03f,
                                 -1.700750319287181e-03f,  3.24962951708585e-04f,   1.0274255328113213e-04f,
                                 -6.893276440678164e-05f,  7.110151727829361e-06f,  4.885889211436734e-06f,
                                 -1.3408173344942043e-06f, -1.609385975598343e-07f, 7.93941836718659e-08f,
                                 1.871024002397803e-09f,   -1.8595859296866024e-09f};
    vec size = (vec)((ivec)x & 0x7fffffff);
    return vmax(x, vec{}) - polynomial(minimax, vmin(size, splat(5.3f)) - 2.65f);
}

// d gelu(x) / dx = Φ(x) + x·φ(x), error below 1e-6: an odd polynomial as above, of degree 33, on [-5.6, 5.6].
JVAN_INLINE vec gelu_derivative(vec x) {
    constexpr float minimax[] = {1.264166384935379e-01f,   -4.099636804312468e-03f,  2.1071932860650122e-04f,
                                 -1.3221998415247072e-05f, 9.377411060995655e-07f,   -6.845355926543562e-08f,
                                 4.819658006027794e-09f,   -3.164799811106178e-10f,  1.8229511650202923e-11f,
                                 -9.015390972817727e-13f,  4.7486056157109574e-14f,  -2.709064204654008e-15f,
                                 9.246187829426301e-17f,   -7.494084192765443e-19f,  7.706083087438483e-20f,
                                 -9.395742629598105e-21f,  2.3720227004654395e-22f};
    x = clamp(x, -5.6f, 5.6f);
    return x * polynomial(minimax, x * x - 15.68f) + 0.5f;
}

// Both at once, for less than the two polynomials cost: Φ(x) + x·φ(x) and x·Φ(x) with φ(x) = e^(-x²/2) / √(2π) and, for
// x < 0, Φ(x) = φ(x)·P(t), t = 1 / (1 + 0.2316419·|x|) (Abramowitz and Stegun 26.2.17; their P is divided by √(2π) here); errors
// below 4e-7 and 5e-7.
JVAN_INLINE vec gelu_derivative(vec x, vec& gelu) {
    constexpr float series[] = {0.127414796f, -0.142248368f, 0.7107068705f, -0.7265760135f, 0.5307027145f};
    const vec size = (vec)((ivec)x & 0x7fffffff), t = 1.0f / (1.0f + 0.23164190f * size);
    const vec bell = exp2(-0.7213475204444817f * x * x), tail = bell * (t * polynomial(series, t));
    const vec cdf = x < 0.0f ? tail : 1.0f - tail;
    gelu = x * cdf;
    return cdf + 0.3989422804014327f * x * bell;
}

}  // namespace
}  // namespace jvan

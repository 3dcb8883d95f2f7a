// Depthwise convolution of one block of 32 channels, whose pixels lie 32 floats apart (see product.h).
#pragma once

# include "gemm.h"

namespace jvan {
namespace {

struct Taps {
    int size, dilation;
    const float* weights;  // of this block: tap (ky, kx) at [(ky·size + kx)·32]
    const float* bias;
    After after;  // NOTHING, GELU or ROUGH_GELU

    int padding() const { return dilation * (size - 1) / 2; }
};

// One row of the output of `taps`; `rows[ky]` is the input row under tap ky, null above and below the map.
struct Row {
    const Taps& taps;
    const float* const* rows;
    int width;
    float* to;
};

template <int P, class F>
JVAN_INLINE void store_tile(const vec (&sum)[P], float* to, int count, F f) {
    JVAN_UNROLL for (int p = 0; p < P; p++)
        if (p < count) store(to + p * BLOCK, f(sum[p]));
}

template <int P>
JVAN_INLINE void finish_tile(const Row& row, const vec (&sum)[P], int x, int v, int count) {
    float* to = row.to + long(x) * BLOCK + v;
    switch (row.taps.after) {
        case GELU: return store_tile(sum, to, count, [](vec s) { return gelu(s); });
        case ROUGH_GELU: return store_tile(sum, to, count, [](vec s) { return rough_gelu(s); });
        default: return store_tile(sum, to, count, [](vec s) { return s; });
    }
}

// `count` <= P outputs from column x, one vector of channels, K×K taps without dilation. A row of taps stays in registers,
// and an input is loaded once for all taps that it lies under. EDGE: some inputs lie outside the map and are left out.
template <int K, int P, bool EDGE>
inline void near_tile(const Row& row, int x, int v, int count) {
    vec sum[P];
    vec bias = load(row.taps.bias + v);
JVAN_UNROLL for (int p = 0; p < P; p++) sum[p] = bias;
    const int left = x - (K - 1) / 2;
    for (int ky = 0; ky < K; ky++) {
        if (!row.rows[ky]) continue;
        const float* from = row.rows[ky] + long(left) * BLOCK + v;
        vec weight[K];
JVAN_UNROLL for (int kx = 0; kx < K; kx++) weight[kx] = load(row.taps.weights + (ky * K + kx) * BLOCK + v);
JVAN_UNROLL for (int i = 0; i < P + K - 1; i++) {
            if (EDGE && (left + i < 0 || left + i >= row.width)) continue;
            vec value = load(from + i * BLOCK);
JVAN_UNROLL for (int kx = 0; kx < K; kx++)
                if (i - kx >= 0 && i - kx < P) sum[i - kx] += value * weight[kx];
        }
    }
    finish_tile(row, sum, x, v, EDGE ? count : P);
}

// The same for any kernel, two vectors, tap by tap: inputs that lie a dilation apart are shared by few of a tile's outputs.
template <int P>
inline void far_tile(const Row& row, int x, int v, int count) {
    vec sum[P], next[P];
    const vec bias = load(row.taps.bias + v), next_bias = load(row.taps.bias + v + LANES);
JVAN_UNROLL for (int p = 0; p < P; p++) sum[p] = bias, next[p] = next_bias;
    const int size = row.taps.size;
    for (int ky = 0; ky < size; ky++) {
        if (!row.rows[ky]) continue;
        const float* weights = row.taps.weights + long(ky) * size * BLOCK + v;
        int left = x - row.taps.padding();
        for (int kx = 0; kx < size; kx++, left += row.taps.dilation, weights += BLOCK) {
            const int first = left < 0 ? -left : 0, last = row.width - left < count ? row.width - left : count;
            if (first >= last) continue;
            const vec weight = load(weights), next_weight = load(weights + LANES);
            const float* from = row.rows[ky] + long(left) * BLOCK + v;
            if (first == 0 && last == P) {
JVAN_UNROLL for (int p = 0; p < P; p++) {
                    sum[p] += load(from + p * BLOCK) * weight;
                    next[p] += load(from + p * BLOCK + LANES) * next_weight;
                }
            } else {
JVAN_UNROLL for (int p = 0; p < P; p++) {
                    if (p < first || p >= last) continue;
                    sum[p] += load(from + p * BLOCK) * weight;
                    next[p] += load(from + p * BLOCK + LANES) * next_weight;
                }
            }
        }
    }
    finish_tile(row, sum, x, v, count);
    finish_tile(row, next, x, v + LANES, count);
}

// The columns of a row by tiles of P; the last one overlaps the one before it where the row has P columns.
template <int P, int CHANS, class F>
JVAN_INLINE void each_tile(int width, F tile) {
    for (int x = 0; x < width; x += P) {
        const int begin = width - x >= P || width < P ? x : width - P;
        const int count = width - begin < P ? width - begin : P;
        for (int v = 0; v < BLOCK; v += CHANS) tile(begin, v, count);
    }
}

template <int K, int P>
inline void near_row(const Row& row) {
    each_tile<P, LANES>(row.width, [&](int x, int v, int count) {
        const bool inside = x >= (K - 1) / 2 && x + P + (K - 1) / 2 <= row.width;
        (inside ? near_tile<K, P, false> : near_tile<K, P, true>)(row, x, v, count);
    });
}

inline void depthwise_row(const Row& row) {
    constexpr int WIDE = REGISTERS == 32 ? 14 : 7, FAR = REGISTERS == 32 ? 7 : 4;
    const bool wide = row.width >= WIDE;
    if (row.taps.dilation == 1 && row.taps.size == 3) return wide ? near_row<3, WIDE>(row) : near_row<3, 7>(row);
    if (row.taps.dilation == 1 && row.taps.size == 5) return wide ? near_row<5, WIDE>(row) : near_row<5, 7>(row);
    each_tile<FAR, 2 * LANES>(row.width, [&](int x, int v, int count) { far_tile<FAR>(row, x, v, count); });
}

}  // namespace
}  // namespace jvan

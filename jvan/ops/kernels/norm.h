// A BatchNorm with given statistics, as the fused operators apply it to strips, and the sums that its gradients are made of.
#pragma once

# include "strips.h"

namespace jvan {
namespace {

// (x - mean)·scale + shift, each PANEL-padded.
struct Affine {
    const float *mean, *rstd, *scale, *shift;
};

// From the four vectors of C that the operators take.
template <class Slot>
inline Affine affine(const float* mean, const float* rstd, const float* gamma, const float* beta, int64_t chans,
                     Scratch<Slot>& scratch, Slot slot) {
    const int64_t size = padded(chans);
    float *memory = scratch.get(slot, 4 * size), *scale = memory + 2 * size;
    std::fill(scale, scale + size, 0.0f);
    for (int64_t c = 0; c < chans; c++) scale[c] = rstd[c] * gamma[c];
    return {padded_copy(mean, chans, memory), padded_copy(rstd, chans, memory + size), scale,
            padded_copy(beta, chans, memory + 3 * size)};
}

JVAN_INLINE vec apply(const Affine& norm, vec x, int64_t c) {
    return (x - load(norm.mean + c)) * load(norm.scale + c) + load(norm.shift + c);
}

// Strip to strip, of which the second lies as Rows with `row` and `block`.
inline void normalise(const Affine& norm, const Rows& x, int64_t rows, int64_t chans, float* to, int64_t row, int64_t block = PANEL) {
    for_each_vector(rows, chans, [&](int64_t i, int64_t c) {
        store(to + c / PANEL * block + i * row + c % PANEL, apply(norm, load(x.at(i, c)), c));
    });
}

// Two sums, and a second pair of them for every other row: a chain of additions has half the length. They have names since
// the compiler keeps an array that is indexed by the row in memory.
struct Sums {
    vec one = {}, two = {};
};
template <class F>
JVAN_INLINE Sums sum_rows(int64_t rows, F add) {
    Sums even, odd;
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) add(i, even), add(i + 1, odd);
    if (i < rows) add(i, even);
    even.one += odd.one, even.two += odd.two;
    return even;
}

// sum[c] += Σ dy; product[c] += Σ dy·(x - mean)·rstd: what the gradients of a normalisation are made of.
inline void add_norm_sums(const Affine& norm, Rows dy, Rows x, int64_t rows, int64_t chans, float* sum, float* product) {
    for (int64_t c = 0; c < chans; c += LANES) {
        const vec mean = load(norm.mean + c);
        const float *grad = dy.at(0, c), *from = x.at(0, c);
        const Sums sums = sum_rows(rows, [&](int64_t i, Sums& s) {
            const vec g = load(grad + i * dy.row);
            s.one += g, s.two += g * (load(from + i * x.row) - mean);
        });
        store(sum + c, load(sum + c) + sums.one);
        store(product + c, load(product + c) + sums.two * load(norm.rstd + c));
    }
}

}  // namespace
}  // namespace jvan

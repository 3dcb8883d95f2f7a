// Strips of pixels: rows of channels in memory or in scratch memory, there `pitch` floats apart and filled up with zeros to
// whole panels of two vectors; what is summed and read of them.
#pragma once

# include "scratch.h"

namespace jvan {
namespace {

constexpr int PANEL = 2 * LANES;
// Rows of a product's tile: accumulators of TALL × 2 vectors, two vectors of weights, and what is left for the broadcast values.
constexpr int TALL = REGISTERS == 32 ? 12 : 6;

inline int64_t padded(int64_t chans) { return (chans + PANEL - 1) / PANEL * PANEL; }
// Rows whose distance is a large power of two displace each other in a cache of few ways.
inline int64_t pitch_of(int64_t chans) { return padded(chans) + (padded(chans) % 128 ? 0 : LANES); }

// Rows of channels. In memory they follow one another, `row` floats apart, or they lie in panels of PANEL channels each,
// `block` floats apart, so that whatever a product reads of them is one stream of whole cache lines.
struct Rows {
    const float* a;
    int64_t row, block = PANEL;

    const float* at(int64_t i, int64_t chan) const { return a + chan / PANEL * block + i * row + chan % PANEL; }
};

// sums[c] += Σ over rows of a strip.
inline void add_columns(const Rows& from, int64_t rows, int64_t chans, float* sums) {
    for (int64_t c = 0; c < chans; c += LANES) {
        const float* column = from.at(0, c);
        vec sum[4] = {};
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4)
            for (int k = 0; k < 4; k++) sum[k] += load(column + (i + k) * from.row);
        for (; i < rows; i++) sum[0] += load(column + i * from.row);
        store(sums + c, load(sums + c) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
    }
}

// The rows of an array (…, C) as a strip: in place where its channels fill whole panels, else a copy filled up with zeros.
inline Rows strip_of(const float* from, int64_t rows, int64_t chans, float* copy) {
    if (chans == padded(chans)) return {from, chans};
    const int64_t pitch = pitch_of(chans);
    for (int64_t i = 0; i < rows; i++) {
        std::copy(from + i * chans, from + (i + 1) * chans, copy + i * pitch);
        std::fill(copy + i * pitch + chans, copy + i * pitch + padded(chans), 0.0f);
    }
    return {copy, pitch};
}

// Calls f(row, channel) for each vector of a strip.
template <class F>
JVAN_INLINE void for_each_vector(int64_t rows, int64_t chans, F f) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < chans; c += LANES) f(i, c);
}

// Writes f(row, channel) for each vector of a strip to an array (rows, C).
template <class F>
JVAN_INLINE void store_strip(float* to, int64_t rows, int64_t chans, F f) {
    const int64_t whole = chans / LANES * LANES;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t c = 0; c < whole; c += LANES) store(to + i * chans + c, f(i, c));
        if (whole < chans) store_tail(to + i * chans + whole, f(i, whole), int(chans - whole));
    }
}

// A copy of `chans` numbers, zeros up to a whole panel.
inline const float* padded_copy(const float* from, int64_t chans, float* to) {
    std::copy(from, from + chans, to);
    std::fill(to + chans, to + padded(chans), 0.0f);
    return to;
}

// The rows of a map, cut into strips that a thread takes one by one: several that fit into the second-level cache
// together, as many for each thread.
struct Strips {
    int64_t rows, count;

    Strips(int64_t rows, int64_t chans) : rows(rows) {
        const int64_t most = std::min<int64_t>(std::max<int64_t>(24576 / padded(chans) / TALL, 4), 16) * TALL;
        const int64_t threads = omp_get_max_threads();
        count = std::min((((rows + most - 1) / most + threads - 1) / threads) * threads, rows);
    }
    int64_t begin(int64_t i) const { return rows * i / count; }
    int64_t longest() const { return (rows + count - 1) / count; }
};

// Sums over threads, always in the same order: a run repeats to the bit.
struct Partial {
    std::vector<const float*> parts = std::vector<const float*>(omp_get_max_threads());

    void is(const float* mine) { parts[omp_get_thread_num()] = mine; }

    // Called by all threads: to (rows, chans) = Σ parts, which lie as Rows, `offset` floats from where each begins.
    void sum(float* to, int64_t rows, int64_t chans, int64_t row, int64_t offset = 0, int64_t block = PANEL) const {
        const int threads = omp_get_num_threads();
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = 0; c < chans; c += PANEL) {
                float total[PANEL] = {};
                for (int t = 0; t < threads; t++) {
                    const float* part = Rows{parts[t] + offset, row, block}.at(i, c);
                    for (int64_t k = 0; k < PANEL; k++) total[k] += part[k];
                }
                std::copy(total, total + std::min<int64_t>(PANEL, chans - c), to + i * chans + c);
            }
    }
    // Of sums that lie as sums_of says.
    void sum_panels(float* to, int64_t rows, int64_t chans) const { sum(to, rows, chans, PANEL, 0, rows * PANEL); }
};

}  // namespace
}  // namespace jvan

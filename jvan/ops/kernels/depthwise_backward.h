// The gradients of a depthwise convolution's weights and bias, in one pass over x and the gradient dy of the output.
//
// Sums of some rows of taps stay in registers while tiles of dy meet the input positions around them (see
// depthwise.h). Slices are dealt out in a fixed way, every 28 rows of one are summed by themselves, and the threads' sums
// are added in order: the same number of threads gives the same bits. The input's gradient is depthwise_batch with
// `reversed`.
#pragma once

# include "arguments.h"
# include "depthwise.h"

namespace jvan {
namespace {

JVAN_INLINE void add_to(float* vectors, int64_t index, vec value) {
    store(vectors + index * LANES, load(vectors + index * LANES) + value);
}

// How many rows of TAPS sums fit into the registers beside a tile of dy.
constexpr int rows_in_registers(int taps) {
    return (REGISTERS - TILE - 2) / taps < 3 ? (REGISTERS - TILE - 2) / taps : 3;
}

// sums[r][k] += Σ_t dy[t] · x[row r, position t + k], for the ROWS rows that have their bit in `rows`.
template <int TAPS, int ROWS>
JVAN_INLINE void correlate_tile(const float* x, int64_t row_step, int64_t step, unsigned rows, unsigned live,
                                const float* dy, int count, vec (&sums)[ROWS][TAPS]) {
    vec gradients[TILE];
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) gradients[t] = t < count ? load(dy + t * step) : vec{};
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
        if (!(rows >> r & 1)) continue;
#pragma GCC unroll 32
        for (int p = 0; p < TILE + TAPS - 1; p++) {
            if (!(live >> p & 1)) continue;
            const vec value = load(x + r * row_step + p * step);
#pragma GCC unroll 16
            for (int k = 0; k < TAPS; k++)
                if (p - k >= 0 && p - k < TILE) sums[r][k] += gradients[p - k] * value;
        }
    }
}

// Rows row0, row0 + dilation, … below row1 against the taps (tap_row … tap_row + ROWS, tap … tap + TAPS).
template <int TAPS, int ROWS>
JVAN_INLINE void correlate_rows(const DepthwiseMap& map, const float* x, const float* dy, int64_t row0, int64_t row1,
                                int64_t tap_row, int64_t tap, float* total) {
    const int64_t d = map.dilation, step = d * LANES, line = map.line();
    vec sums[ROWS][TAPS] = {};
    for (int64_t row = row0; row < row1; row += d) {
        const TapRows& on_map = map.tap_rows[row];
        const unsigned rows = live_bits(on_map.first - tap_row, on_map.last - tap_row, ROWS);
        if (!rows) continue;
        const float* from = x + (row - map.padding + tap_row * d) * line + tap * step;
        for (const Span& span : map.spans)
            correlate_tile<TAPS, ROWS>(from + span.source * LANES, d * line, step, rows,
                                       live_positions<TAPS>(span.low - tap, span.high - tap),
                                       dy + row * line + span.from * LANES, span.count, sums);
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int k = 0; k < TAPS; k++)
            if (tap_row + r < map.size) add_to(total, (tap_row + r) * map.size + tap + k, sums[r][k]);
}

// totals (K·K + 1 vectors: the taps' sums, then the bias's) += those over `rows` of dy.
template <int TAPS>
void correlate_by_taps(const DepthwiseMap& map, const float* x, const float* dy, RowRange rows, float* totals) {
    constexpr int together = rows_in_registers(TAPS);
    // About 100 pixels at a time: they and the rows around them stay in the first-level cache for all taps.
    const int64_t d = map.dilation, chunk = std::max<int64_t>(1, 100 / map.width) * d;
    for (int64_t start = rows.begin; start < std::min(rows.begin + d, rows.end); start++)
        for (int64_t row = start; row < rows.end; row += chunk)
            for (int64_t tap_row = 0; tap_row < map.size; tap_row += together)
                for (int64_t tap = 0; tap < map.size; tap += TAPS)
                    correlate_rows<TAPS, together>(map, x, dy, row, std::min(row + chunk, rows.end), tap_row, tap, totals);
    vec bias = {};
    for (int64_t at = rows.begin * map.line(); at < rows.end * map.line(); at += LANES) bias += load(dy + at);
    add_to(totals, map.taps(), bias);
}

JVAN_INLINE void load_row(const float* from, int count, vec (&row)[TILE]) {
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) row[t] = t < count ? load(from + t * LANES) : vec{};
}

// 3×3 without dilation: nine sums, and three rows of dy that move up one place with each row, so that x and dy are
// loaded once.
inline void correlate_span_3x3(const DepthwiseMap& map, const float* x, const float* dy, const Span& span, RowRange rows,
                               float* total) {
    const int64_t line = map.line();
    const unsigned live = live_positions<3>(span.low, span.high);
    x += span.source * LANES, dy += span.from * LANES;
    vec sums[9] = {}, bias = {}, above[TILE] = {}, here[TILE] = {}, below[TILE];
    for (int64_t row = rows.begin - 1; row <= rows.end; row++) {
        load_row(dy + (row + 1) * line, row + 1 < rows.end ? span.count : 0, below);
#pragma GCC unroll 16
        for (int p = 0; p < TILE + 2; p++) {
            if (!(live >> p & 1) || row < 0 || row >= map.height) continue;
            const vec value = load(x + row * line + p * LANES);
#pragma GCC unroll 4
            for (int k = 0; k < 3; k++) {
                if (p - k < 0 || p - k >= TILE) continue;
                sums[k] += below[p - k] * value;
                sums[3 + k] += here[p - k] * value;
                sums[6 + k] += above[p - k] * value;
            }
        }
#pragma GCC unroll 16
        for (int t = 0; t < TILE; t++) bias += below[t], above[t] = here[t], here[t] = below[t];
    }
#pragma GCC unroll 16
    for (int k = 0; k < 9; k++) add_to(total, k, sums[k]);
    add_to(total, 9, bias);
}

inline void correlate_strip(const DepthwiseMap& map, const float* x, const float* dy, RowRange rows, float* totals) {
    if (map.size == 3 && map.dilation == 1) {
        for (const Span& span : map.spans) correlate_span_3x3(map, x, dy, span, rows, totals);
        return;
    }
    auto by_taps = map.size == 3 ? correlate_by_taps<3>
                 : map.size == 5 ? correlate_by_taps<5>
                 : map.size == 7 ? correlate_by_taps<7>
                                 : correlate_by_taps<1>;
    by_taps(map, x, dy, rows, totals);
}

typedef std::vector<const float*> Totals;  // of each thread

// A thread's sums for each block of channels; all threads' become the gradients.
struct TapSums {
    const Slices& all;
    const DepthwiseMap& map;
    float *totals, *strip;

    static int64_t entries(const DepthwiseMap& map) { return (map.taps() + 1) * LANES; }
    template <class Slot>
    TapSums(const Slices& all, const DepthwiseMap& map, Scratch<Slot>& own, Slot slot) : all(all), map(map) {
        totals = own.get(slot, (all.blocks() + 1) * entries(map)), strip = totals + all.blocks() * entries(map);
        std::fill(totals, strip, 0.0f);
    }
    // Rows of a slice, x and dy from where row 0 lies or would lie.
    void add(const float* x, const float* dy, int64_t block, RowRange rows) const {
        float* total = totals + block * entries(map);
        evenly(rows.count(), 28, [&](int64_t begin, int count) {
            std::fill(strip, strip + entries(map), 0.0f);
            correlate_strip(map, x, dy, {rows.begin + begin, rows.begin + begin + count}, strip);
            for (int64_t i = 0; i < entries(map); i++) total[i] += strip[i];
        });
    }
    // Called by all threads: weight (C, 1, K, K) and bias (C).
    void sum(Totals& of_all, float* weight, float* bias) const {
        of_all[omp_get_thread_num()] = totals;
        const int threads = omp_get_num_threads();
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t block = 0; block < all.blocks(); block++) {
            const Slice slice = all.of_block(block);
            for (int64_t tap = 0; tap <= map.taps(); tap++) {
                vec sum = {};
                for (int t = 0; t < threads; t++) sum += load(of_all[t] + block * entries(map) + tap * LANES);
                for (int lane = 0; lane < slice.lanes; lane++)
                    (tap < map.taps() ? weight[(slice.chan + lane) * map.taps() + tap] : bias[slice.chan + lane]) = sum[lane];
            }
        }
    }
};

// x, dy: (N, H, W, C); dweight: (C, 1, K, K); dbias: (C)
struct DepthwiseWeights {
    Input x, dy;
    Output dweight, dbias;
};

inline void depthwise_batch_gradients(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t size,
                                      int64_t dilation, const DepthwiseWeights& args) {
    enum class Own { SUMS, X, DY, COUNT };
    const Slices all(batch, height, width, chans);
    const DepthwiseMap map = depthwise_map(height, width, size, dilation);
    Totals of_all(omp_get_max_threads());
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const TapSums sums(all, map, own, Own::SUMS);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < all.tasks(); task++) {
            const Slice slice = all.slice(task);
            const RowRange rows = all.rows(task), under = map.under(rows);
            const float* from = all.take(args.x, slice, under, own.get(Own::X, all.floats(under)));
            sums.add(from, all.take(args.dy, slice, rows, own.get(Own::DY, all.floats(rows))), all.block(task), rows);
        }
        sums.sum(of_all, args.dweight, args.dbias);
    }
}

}  // namespace
}  // namespace jvan

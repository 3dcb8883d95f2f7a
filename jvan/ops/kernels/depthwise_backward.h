// The gradients of a depthwise convolution's weights and bias, in one pass over x and the gradient dy of the output.
//
// Sums of some rows of taps stay in registers while tiles of dy meet the input positions around them (see
// depthwise.h). Pictures and strips of rows are dealt out in a fixed way, each strip is summed by itself, and the
// threads' sums are added in order: the same number of threads gives the same bits. The input's gradient is
// depthwise_batch with `reversed`.
#pragma once

# include "depthwise_op.h"

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
JVAN_INLINE void correlate_rows(const DepthwiseMap& map, const float* x, const float* dy, int64_t chan, int64_t row0,
                                int64_t row1, int64_t tap_row, int64_t tap, float* total) {
    const int64_t d = map.dilation, step = d * map.chans, line = map.width * map.chans;
    vec sums[ROWS][TAPS] = {};
    for (int64_t row = row0; row < row1; row += d) {
        const TapRows& on_map = map.tap_rows[row];
        const unsigned rows = live_bits(on_map.first - tap_row, on_map.last - tap_row, ROWS);
        if (!rows) continue;
        const float* from = x + (row - map.padding + tap_row * d) * line + tap * step + chan;
        for (const Span& span : map.spans)
            correlate_tile<TAPS, ROWS>(from + span.source * map.chans, d * line, step, rows,
                                       live_positions<TAPS>(span.low - tap, span.high - tap),
                                       dy + row * line + span.from * map.chans + chan, span.count, sums);
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int k = 0; k < TAPS; k++)
            if (tap_row + r < map.size) add_to(total, (tap_row + r) * map.size + tap + k, sums[r][k]);
}

JVAN_INLINE vec sum_rows(const DepthwiseMap& map, const float* dy, int64_t chan, int64_t row0, int64_t row1) {
    vec sum = {};
    for (int64_t row = row0; row < row1; row += map.dilation) {
        const float* from = dy + row * map.width * map.chans + chan;
        for (int64_t column = 0; column < map.width; column++) sum += load(from + column * map.chans);
    }
    return sum;
}

// totals (for each block K·K + 1 vectors: the taps' sums, then the bias's) += rows [row0, row1) of one picture.
template <int TAPS>
void correlate_strip(const DepthwiseMap& map, const float* x, const float* dy, int64_t block0, int64_t block1,
                     int64_t row0, int64_t row1, float* totals) {
    constexpr int rows = rows_in_registers(TAPS);
    // About 100 pixels at a time: they and the rows around them stay in the first-level cache for all taps.
    const int64_t d = map.dilation, chunk = std::max<int64_t>(1, 100 / map.width) * d;
    for (int64_t start = row0; start < std::min(row0 + d, row1); start++)
        for (int64_t row = start; row < row1; row += chunk) {
            const int64_t end = std::min(row + chunk, row1);
            for (int64_t block = block0; block < block1; block++) {
                const int64_t chan = map.first_chan(block);
                float* total = totals + (block - block0) * (map.taps() + 1) * LANES;
                for (int64_t tap_row = 0; tap_row < map.size; tap_row += rows)
                    for (int64_t tap = 0; tap < map.size; tap += TAPS)
                        correlate_rows<TAPS, rows>(map, x, dy, chan, row, end, tap_row, tap, total);
                add_to(total, map.taps(), sum_rows(map, dy, chan, row, end));
            }
        }
}

// The rows of x and dy that a strip needs, widened to LANES channels: for maps that have fewer.
inline void correlate_narrow(const DepthwiseMap& map, const float* x, const float* dy, int64_t row0, int64_t row1,
                             float* total) {
    static thread_local std::vector<float> scratch;
    const int64_t reach = map.dilation * (map.size - 1), line = map.width * LANES;
    const int64_t top = std::max<int64_t>(0, row0 - map.padding);
    const int64_t end = std::min(map.height, row1 + reach - map.padding);
    scratch.resize((end - top + row1 - row0) * line);
    float *wide = scratch.data(), *gradient = wide + (end - top) * line;
    for (int64_t i = 0; i < (end - top) * map.width; i++)
        store(wide + i * LANES, load_tail(x + (top * map.width + i) * map.chans, map.chans));
    for (int64_t i = 0; i < (row1 - row0) * map.width; i++)
        store(gradient + i * LANES, load_tail(dy + (row0 * map.width + i) * map.chans, map.chans));
    DepthwiseMap widened = map;
    widened.chans = LANES;
    correlate_strip<1>(widened, wide - top * line, gradient - row0 * line, 0, 1, row0, row1, total);
}

JVAN_INLINE void load_row(const float* from, int64_t step, int count, vec (&row)[TILE]) {
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) row[t] = t < count ? load(from + t * step) : vec{};
}

// 3×3 without dilation: nine sums, and three rows of dy that move up one place with each row, so that x and dy are
// loaded once.
JVAN_INLINE void correlate_span_3x3(const DepthwiseMap& map, const float* x, const float* dy, const Span& span,
                                    int64_t row0, int64_t row1, float* total) {
    const int64_t step = map.chans, line = map.width * map.chans;
    const unsigned live = live_positions<3>(span.low, span.high);
    x += span.source * step, dy += span.from * step;
    vec sums[9] = {}, bias = {}, above[TILE] = {}, here[TILE] = {}, below[TILE];
    for (int64_t row = row0 - 1; row <= row1; row++) {
        load_row(dy + (row + 1) * line, step, row + 1 < row1 ? span.count : 0, below);
#pragma GCC unroll 16
        for (int p = 0; p < TILE + 2; p++) {
            if (!(live >> p & 1) || row < 0 || row >= map.height) continue;
            const vec value = load(x + row * line + p * step);
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

inline void correlate_strip_3x3(const DepthwiseMap& map, const float* x, const float* dy, int64_t block0,
                                int64_t block1, int64_t row0, int64_t row1, float* totals) {
    for (const Span& span : map.spans)
        for (int64_t block = block0; block < block1; block++) {
            const int64_t chan = map.first_chan(block);
            correlate_span_3x3(map, x + chan, dy + chan, span, row0, row1, totals + (block - block0) * 10 * LANES);
        }
}

inline void correlate(const DepthwiseMap& map, const float* x, const float* dy, int64_t block0, int64_t block1,
                      int64_t row0, int64_t row1, float* totals) {
    if (map.chans < LANES) return correlate_narrow(map, x, dy, row0, row1, totals);
    auto strip = map.size == 3 && map.dilation == 1 ? correlate_strip_3x3
               : map.size == 3 ? correlate_strip<3>
               : map.size == 5 ? correlate_strip<5>
               : map.size == 7 ? correlate_strip<7>
                               : correlate_strip<1>;
    strip(map, x, dy, block0, block1, row0, row1, totals);
}

// Adds the parts (splits, blocks, K·K + 1) in order and writes block `block` of weight (C, 1, K, K) and bias (C).
inline void add_parts(const DepthwiseMap& map, const float* parts, int64_t splits, int64_t block, float* weight,
                      float* bias) {
    const int64_t taps = map.taps(), first = map.first_chan(block), lanes = std::min<int64_t>(LANES, map.chans);
    for (int64_t tap = 0; tap <= taps; tap++) {
        vec sum = {};
        for (int64_t split = 0; split < splits; split++) 
            sum += load(parts + ((split * map.blocks() + block) * (taps + 1) + tap) * LANES);
        for (int64_t lane = 0; lane < lanes; lane++)
            (tap < taps ? weight[(first + lane) * taps + tap] : bias[first + lane]) = sum[lane];
    }
}

// x, dy: (N, H, W, C) -> weight: (C, 1, K, K), bias: (C)
inline void depthwise_batch_gradients(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t size,
                                      int64_t dilation, const float* x, const float* dy, float* weight, float* bias) {
    static std::vector<float> parts;  // of vectors: C++14's allocator does not align a vec
    const DepthwiseMap map = depthwise_map(height, width, chans, size, dilation);
    const int64_t blocks = map.blocks(), entries = (map.taps() + 1) * LANES, wanted = 4 * omp_get_max_threads();
    const int64_t together = std::max<int64_t>(1, std::min<int64_t>(4, blocks / wanted));
    const int64_t groups = (blocks + together - 1) / together, strips = (height + 27) / 28, units = batch * strips;
    const int64_t splits = std::min(units, (wanted + groups - 1) / groups);
    parts.assign(splits * blocks * entries, 0.0f);
#pragma omp parallel
    {
        std::vector<float> sums(together * entries);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < splits * groups; task++) {
            const int64_t split = task / groups, block0 = task % groups * together;
            const int64_t block1 = std::min(block0 + together, blocks), count = (block1 - block0) * entries;
            float* part = parts.data() + (split * blocks + block0) * entries;
            for (int64_t unit = units * split / splits; unit < units * (split + 1) / splits; unit++) {
                const int64_t image = unit / strips * map.pixels() * chans, strip = unit % strips;
                std::fill(sums.begin(), sums.end(), 0.0f);
                correlate(map, x + image, dy + image, block0, block1, height * strip / strips,
                          height * (strip + 1) / strips, sums.data());
                for (int64_t i = 0; i < count; i++) part[i] += sums[i];
            }
        }
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) add_parts(map, parts.data(), splits, block, weight, bias);
    }
}

}  // namespace
}  // namespace jvan

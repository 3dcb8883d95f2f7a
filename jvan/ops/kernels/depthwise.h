// Depthwise convolution of a slice of a map: one vector of channels, pixel after pixel (H, W, LANES), stride 1.
//
// A tile of adjacent output pixels stays in registers; a row of taps is loaded once for the tile, an input vector once for
// all the taps that meet it. With a dilation d, "adjacent" means adjacent among the columns of one residue modulo d, so
// that loads are shared as without one. Input pixels past the border are skipped, with one test for up to a whole row of
// taps.
#pragma once

# include "slice.h"

namespace jvan {
namespace {

constexpr int TILE = 7;

// What a tile covers of one row: `count` outputs from column `from` on, a dilation apart. Position p is the input
// column source + p·dilation; positions in [low, high) are inside the map and reach one of the outputs.
struct Span {
    int64_t from, source;
    int count;
    int64_t low, high;
};

// The rows of taps [first, last) that fall on the map.
struct TapRows {
    int64_t first, last;
};

// padding: how far the first tap lies above and to the left of the output pixel. spans: of any row; tap_rows: of each.
// They are tables because on small maps the divisions would cost more than the products.
struct DepthwiseMap {
    int64_t height, width, size, dilation, padding;
    std::vector<Span> spans;
    std::vector<TapRows> tap_rows;

    int64_t taps() const { return size * size; }
    int64_t line() const { return width * LANES; }
    // The rows of the input under `rows` of the output.
    RowRange under(RowRange rows) const {
        return {std::max<int64_t>(0, rows.begin - padding), std::min(height, rows.end + dilation * (size - 1) - padding)};
    }
};

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// The columns of each residue modulo the dilation, in tiles of even lengths.
inline void find_spans(DepthwiseMap& map) {
    const int64_t d = map.dilation;
    for (int64_t residue = 0; residue < std::min(d, map.width); residue++) {
        const int64_t columns = (map.width - residue + d - 1) / d, tiles = (columns + TILE - 1) / TILE;
        const int64_t shift = floor_div(residue - map.padding, d), first = residue - map.padding - shift * d;
        const int64_t sources = first < map.width ? (map.width - first + d - 1) / d : 0;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t begin = columns * t / tiles, count = columns * (t + 1) / tiles - begin;
            const int64_t origin = begin + shift;
            map.spans.push_back({residue + begin * d, first + origin * d, int(count), std::max<int64_t>(0, -origin),
                                 std::min(count + map.size - 1, sources - origin)});
        }
    }
}

inline void find_tap_rows(DepthwiseMap& map) {
    const int64_t d = map.dilation;
    for (int64_t row = 0; row < map.height; row++) {
        const int64_t above = map.padding - row, below = map.height - 1 + above;
        const int64_t first = above > 0 ? std::min((above + d - 1) / d, map.size) : 0;
        map.tap_rows.push_back({first, std::max(std::min(floor_div(below, d) + 1, map.size), first)});
    }
}

// The map that keeps its size; of its input's gradient where `mirrored`, with the taps reversed.
inline DepthwiseMap depthwise_map(int64_t height, int64_t width, int64_t size, int64_t dilation, bool mirrored = false) {
    const int64_t reach = dilation * (size - 1), padding = reach / 2;
    DepthwiseMap map = {height, width, size, dilation, mirrored ? reach - padding : padding, {}, {}};
    find_spans(map);
    find_tap_rows(map);
    return map;
}

// The taps of a slice, of weights (C, 1, K, K), as (K·K, LANES): what a tile reads lies together. Zeros past the last channel.
inline void pack_taps(const float* weight, int64_t taps, const Slice& slice, bool reversed, float* packed) {
    weight += slice.chan * taps;
    for (int64_t tap = 0; tap < taps; tap++) {
        const float* from = weight + (reversed ? taps - 1 - tap : tap);
        for (int lane = 0; lane < LANES; lane++) *packed++ = lane < slice.lanes ? from[lane * taps] : 0.0f;
    }
}

// Bits [low, high) among the first `count`.
JVAN_INLINE unsigned live_bits(int64_t low, int64_t high, int64_t count) {
    low = std::max<int64_t>(low, 0), high = std::min(high, count);
    return high <= low ? 0 : ((1u << high) - 1) & ~((1u << low) - 1);
}

// Bit p is set for each position p in [low, high) of the TILE + TAPS - 1 that the outputs of a tile and TAPS taps span.
template <int TAPS>
JVAN_INLINE unsigned live_positions(int64_t low, int64_t high) {
    return live_bits(low, high, TILE + TAPS - 1);
}

JVAN_INLINE void store_tile(const vec (&sums)[TILE], int count, float* y, int64_t step) {
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) {
        if (t >= count) break;
        store(y + t * step, sums[t]);
    }
}

// sums[t] += one row of `size` taps · x, of which TAPS, a divisor of size, are in registers at a time.
template <int TAPS>
JVAN_INLINE void add_row_of_taps(const float* x, int64_t step, const float* packed, int64_t size, const Span& span,
                                 vec (&sums)[TILE]) {
    for (int64_t j = 0; j < size; j += TAPS, x += TAPS * step, packed += TAPS * LANES) {
        const unsigned live = live_positions<TAPS>(span.low - j, span.high - j);
        vec taps[TAPS];
#pragma GCC unroll 16
        for (int k = 0; k < TAPS; k++) taps[k] = load(packed + k * LANES);
#pragma GCC unroll 32
        for (int p = 0; p < TILE + TAPS - 1; p++) {
            if (!(live >> p & 1)) continue;
            const vec value = load(x + p * step);
#pragma GCC unroll 16
            for (int k = 0; k < TAPS; k++)
                if (p - k >= 0 && p - k < TILE) sums[p - k] += taps[k] * value;
        }
    }
}

template <int TAPS>
void convolve_rows(const DepthwiseMap& map, const float* x, const float* packed, vec bias, RowRange rows, float* y) {
    const int64_t d = map.dilation, step = d * LANES;
    // Rows of one residue follow one another: all but one of the input rows are still in cache.
    for (int64_t start = rows.begin; start < std::min(rows.begin + d, rows.end); start++)
        for (int64_t row = start; row < rows.end; row += d)
            for (const Span& span : map.spans) {
                const float* from = x + (row - map.padding) * map.line() + span.source * LANES;
                vec sums[TILE];
#pragma GCC unroll 16
                for (int t = 0; t < TILE; t++) sums[t] = bias;
                for (int64_t i = map.tap_rows[row].first; i < map.tap_rows[row].last; i++)
                    add_row_of_taps<TAPS>(from + i * d * map.line(), step, packed + i * map.size * LANES, map.size, span, sums);
                store_tile(sums, span.count, y + row * map.line() + span.from * LANES, step);
            }
}

// Adds one input row to the three output rows around it, whose sums move up one place with each row.
JVAN_INLINE void add_to_three_rows(const float* x, const vec (&taps)[9], unsigned live, vec (&above)[TILE],
                                   vec (&here)[TILE], vec (&below)[TILE]) {
#pragma GCC unroll 16
    for (int p = 0; p < TILE + 2; p++) {
        if (!(live >> p & 1)) continue;
        const vec value = load(x + p * LANES);
#pragma GCC unroll 4
        for (int k = 0; k < 3; k++) {
            if (p - k < 0 || p - k >= TILE) continue;
            above[p - k] += taps[6 + k] * value;
            here[p - k] += taps[3 + k] * value;
            below[p - k] += taps[k] * value;
        }
    }
}

// 3×3 without dilation: with all nine taps and three rows of sums in registers each input vector is loaded once.
inline void convolve_span_3x3(const DepthwiseMap& map, const float* x, const float* packed, vec bias, const Span& span,
                              RowRange rows, float* y) {
    const unsigned live = live_positions<3>(span.low, span.high);
    vec taps[9], above[TILE], here[TILE], below[TILE];
#pragma GCC unroll 16
    for (int k = 0; k < 9; k++) taps[k] = load(packed + k * LANES);
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) above[t] = here[t] = bias;
    for (int64_t row = rows.begin - 1; row <= rows.end; row++) {
#pragma GCC unroll 16
        for (int t = 0; t < TILE; t++) below[t] = bias;
        if (row >= 0 && row < map.height) add_to_three_rows(x + row * map.line() + span.source * LANES, taps, live, above, here, below);
        if (row > rows.begin) store_tile(above, span.count, y + (row - 1) * map.line() + span.from * LANES, LANES);
#pragma GCC unroll 16
        for (int t = 0; t < TILE; t++) above[t] = here[t], here[t] = below[t];
    }
}

// Rows of the output, with the slice's taps and its bias. x and y are where row 0 of the map lies or would lie: only the
// rows under `rows` are read, only `rows` are written.
inline void convolve(const DepthwiseMap& map, const float* x, const float* packed, vec bias, RowRange rows, float* y) {
    if (map.size == 3 && map.dilation == 1) {
        for (const Span& span : map.spans) convolve_span_3x3(map, x, packed, bias, span, rows, y);
        return;
    }
    auto by_taps = map.size == 5 ? convolve_rows<5> : map.size == 7 ? convolve_rows<7> : convolve_rows<1>;
    by_taps(map, x, packed, bias, rows, y);
}

}  // namespace
}  // namespace jvan

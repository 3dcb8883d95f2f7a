// Depthwise convolution of channels-last maps (H, W, C), stride 1.
//
// A tile of adjacent output pixels times one vector of channels stays in registers; a row of taps is loaded once for
// the tile, an input vector once for all the taps that meet it. With a dilation d, "adjacent" means adjacent among the
// columns of one residue modulo d, so that loads are shared as without one. Input pixels past the border are skipped,
// with one test for up to a whole row of taps. Where C is no multiple of the vector, the last block of channels
// overlaps the one before it and computes the same numbers again.
#pragma once

# include "vector.h"

#include <algorithm>
#include <vector>

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
    int64_t height, width, chans, size, dilation, padding;
    std::vector<Span> spans;
    std::vector<TapRows> tap_rows;

    int64_t pixels() const { return height * width; }
    int64_t taps() const { return size * size; }
    int64_t blocks() const { return (chans + LANES - 1) / LANES; }
    int64_t first_chan(int64_t block) const { return std::max<int64_t>(std::min(block * LANES, chans - LANES), 0); }
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
inline DepthwiseMap depthwise_map(int64_t height, int64_t width, int64_t chans, int64_t size, int64_t dilation,
                                  bool mirrored = false) {
    const int64_t reach = dilation * (size - 1), padding = reach / 2;
    DepthwiseMap map = {height, width, chans, size, dilation, mirrored ? reach - padding : padding, {}, {}};
    find_spans(map);
    find_tap_rows(map);
    return map;
}

inline int64_t packed_floats(const DepthwiseMap& map) { return map.blocks() * map.taps() * LANES; }

// One block of the weights (C, 1, K, K), of which `packed` (blocks, K·K, LANES) keeps together what a tile reads.
inline void pack_block(const DepthwiseMap& map, const float* weight, bool reversed, int64_t block, float* packed) {
    const int64_t taps = map.taps(), lanes = std::min<int64_t>(LANES, map.chans);
    weight += map.first_chan(block) * taps;
    packed += block * taps * LANES;
    for (int64_t tap = 0; tap < taps; tap++) {
        const float* from = weight + (reversed ? taps - 1 - tap : tap);
        float* to = packed + tap * LANES;
        for (int64_t lane = 0; lane < LANES; lane++) to[lane] = lane < lanes ? from[lane * taps] : 0.0f;
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

// Writes a tile's results: epilogue(vec, offset into y, channel, lanes) -> vec.
template <class Epilogue>
JVAN_INLINE void store_tile(const vec (&sums)[TILE], int count, float* y, int64_t at, int64_t step, int64_t chan,
                            Epilogue epilogue) {
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) {
        if (t >= count) break;
        store(y + at + t * step, epilogue(sums[t], at + t * step, chan, LANES));
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

template <int TAPS, class Epilogue>
void depthwise_block(const DepthwiseMap& map, const float* x, const float* packed, vec bias, int64_t chan, int64_t row0,
                     int64_t row1, float* y, Epilogue epilogue) {
    const int64_t d = map.dilation, step = d * map.chans, line = map.width * map.chans;
    // Rows of one residue follow one another: all but one of the input rows are still in cache.
    for (int64_t start = row0; start < std::min(row0 + d, row1); start++)
        for (int64_t row = start; row < row1; row += d)
            for (const Span& span : map.spans) {
                const float* from = x + (row - map.padding) * line + span.source * map.chans + chan;
                vec sums[TILE];
#pragma GCC unroll 16
                for (int t = 0; t < TILE; t++) sums[t] = bias;
                for (int64_t i = map.tap_rows[row].first; i < map.tap_rows[row].last; i++)
                    add_row_of_taps<TAPS>(from + i * d * line, step, packed + i * map.size * LANES, map.size, span,
                                          sums);
                store_tile(sums, span.count, y, row * line + span.from * map.chans + chan, step, chan, epilogue);
            }
}

// Adds one input row to the three output rows around it, whose sums move up one place with each row.
JVAN_INLINE void add_to_three_rows(const float* x, int64_t step, const vec (&taps)[9], unsigned live,
                                   vec (&above)[TILE], vec (&here)[TILE], vec (&below)[TILE]) {
#pragma GCC unroll 16
    for (int p = 0; p < TILE + 2; p++) {
        if (!(live >> p & 1)) continue;
        const vec value = load(x + p * step);
#pragma GCC unroll 4
        for (int k = 0; k < 3; k++) {
            if (p - k < 0 || p - k >= TILE) continue;
            above[p - k] += taps[6 + k] * value;
            here[p - k] += taps[3 + k] * value;
            below[p - k] += taps[k] * value;
        }
    }
}

// 3×3 without dilation: with all nine taps and three rows of sums in registers each input vector is loaded once, which
// spares the caches: in them, pixels whose distance is a power of two displace each other.
template <class Epilogue>
JVAN_INLINE void tile_3x3(const DepthwiseMap& map, const float* x, const float* packed, vec bias, int64_t chan,
                          const Span& span, int64_t row0, int64_t row1, float* y, Epilogue epilogue) {
    const int64_t step = map.chans, line = map.width * map.chans;
    const unsigned live = live_positions<3>(span.low, span.high);
    vec taps[9], above[TILE], here[TILE], below[TILE];
#pragma GCC unroll 16
    for (int k = 0; k < 9; k++) taps[k] = load(packed + k * LANES);
#pragma GCC unroll 16
    for (int t = 0; t < TILE; t++) above[t] = here[t] = bias;
    for (int64_t row = row0 - 1; row <= row1; row++) {
#pragma GCC unroll 16
        for (int t = 0; t < TILE; t++) below[t] = bias;
        if (row >= 0 && row < map.height)
            add_to_three_rows(x + row * line + span.source * step + chan, step, taps, live, above, here, below);
        if (row > row0)
            store_tile(above, span.count, y, (row - 1) * line + span.from * step + chan, step, chan, epilogue);
#pragma GCC unroll 16
        for (int t = 0; t < TILE; t++) above[t] = here[t], here[t] = below[t];
    }
}

// Fewer channels than lanes: pixels are widened to a vector in scratch memory, and narrowed after.
template <class Epilogue>
void depthwise_narrow(const DepthwiseMap& map, const float* x, const float* packed, const float* bias, int64_t row0,
                      int64_t row1, float* y, Epilogue epilogue) {
    static thread_local std::vector<float> scratch;
    const int64_t reach = map.dilation * (map.size - 1), lanes = map.chans, line = map.width * LANES;
    const int64_t top = std::max<int64_t>(0, row0 - map.padding);
    const int64_t end = std::min(map.height, row1 + reach - map.padding);
    scratch.resize((end - top + row1 - row0) * line);
    float *wide = scratch.data(), *result = wide + (end - top) * line;
    for (int64_t i = 0; i < (end - top) * map.width; i++)
        store(wide + i * LANES, load_tail(x + (top * map.width + i) * lanes, lanes));
    DepthwiseMap widened = map;
    widened.chans = LANES;
    auto as_it_is = [](vec value, int64_t, int64_t, int) { return value; };
    depthwise_block<1>(widened, wide - top * line, packed, bias ? load_tail(bias, lanes) : vec{}, 0, row0, row1,
                       result - row0 * line, as_it_is);
    for (int64_t i = row0 * map.width; i < row1 * map.width; i++) {
        const vec value = load(result - row0 * line + i * LANES);
        store_tail(y + i * lanes, epilogue(value, i * lanes, 0, lanes), lanes);
    }
}

// Output rows [row0, row1) of the blocks [block0, block1). x and y are where row 0 of the map lies or would lie: only
// the rows that the output rows need are read, only those are written. bias may be null. The epilogue, called as
// epilogue(vec, offset into y, channel, lanes) -> vec, can be called twice for a pixel's channel: y is not to be one of
// its inputs.
template <class Epilogue>
void depthwise_blocks(const DepthwiseMap& map, const float* x, const float* packed, const float* bias, int64_t row0,
                      int64_t row1, int64_t block0, int64_t block1, float* y, Epilogue epilogue) {
    if (map.chans < LANES) return depthwise_narrow(map, x, packed, bias, row0, row1, y, epilogue);
    auto for_each_block = [&](auto compute) {
        for (int64_t block = block0; block < block1; block++) {
            const int64_t chan = map.first_chan(block);
            compute(packed + block * map.taps() * LANES, bias ? load(bias + chan) : vec{}, chan);
        }
    };
    if (map.size == 3 && map.dilation == 1)
        for (const Span& span : map.spans)
            for_each_block([&](const float* taps, vec start, int64_t chan) {
                tile_3x3(map, x, taps, start, chan, span, row0, row1, y, epilogue);
            });
    else
        for_each_block([&](const float* taps, vec start, int64_t chan) {
            auto compute = map.size == 5 ? depthwise_block<5, Epilogue>
                         : map.size == 7 ? depthwise_block<7, Epilogue>
                                         : depthwise_block<1, Epilogue>;
            compute(map, x, taps, start, chan, row0, row1, y, epilogue);
        });
}

}  // namespace
}  // namespace jvan

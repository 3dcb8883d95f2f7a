// The product of product.h: by AMX's tiles where they serve (amx_product.h), else by vectors, in tiles of registers.
#pragma once

# include "amx_product.h"

namespace jvan {
namespace {

// Accumulators of ROWS × 2 vectors, two vectors of weights, and what is left for the broadcast values.
constexpr int ROWS = REGISTERS == 32 ? 12 : 6;
constexpr int COLUMNS = 2 * LANES;
static_assert(BLOCK % COLUMNS == 0, "a block of channels is a whole number of register tiles");

// Loops over registers: unrolled before the compiler decides what lies in memory.
#define JVAN_UNROLL _Pragma("GCC unroll 32")

template <int M, bool PAIRS>
inline void tile(const Product& p, long m, int panel, int column) {
    constexpr int GROUPS = (M + 2) / 3;  // one pointer for three rows: x86 addresses base + {0, 1, 2}·row
    const float* rows[GROUPS];
    JVAN_UNROLL for (int g = 0; g < GROUPS; g++) rows[g] = p.from + (m + 3 * g) * p.row;
    long offset = panel * p.to_block + m * BLOCK + column;
    vec sum[M][2];
    vec bias[2] = {};
    if (p.bias)
        JVAN_UNROLL for (int v = 0; v < 2; v++) bias[v] = load(p.bias + panel * BLOCK + column + v * LANES);
    JVAN_UNROLL for (int i = 0; i < M; i++)
        JVAN_UNROLL for (int v = 0; v < 2; v++) sum[i][v] = bias[v];
    const float* weights = p.weights + panel * p.panel + column;
    const long row = p.row;
    for (int done = 0; done < p.depth; done += p.chunk) {
        int count = p.depth - done < p.chunk ? p.depth - done : p.chunk;
        for (int k = 0; k < count; k++, weights += BLOCK) {
            vec w0 = load(weights), w1 = load(weights + LANES);
            JVAN_UNROLL for (int i = 0; i < M; i++) {
                const float* value = rows[i / 3] + k + (i % 3) * row;
                if (PAIRS) {
                    ivec pair = splat_pair(value);
                    sum[i][0] = add_products(sum[i][0], pair, w0);
                    sum[i][1] = add_products(sum[i][1], pair, w1);
                } else {
                    sum[i][0] += *value * w0;
                    sum[i][1] += *value * w1;
                }
            }
        }
        JVAN_UNROLL for (int g = 0; g < GROUPS; g++) rows[g] += p.chunk_stride;
    }
    // The residual is the larger: added first, it would make every product that follows round to its own last place.
    if (p.residual) {
        vec scale[2] = {splat(1), splat(1)};
        if (p.scale)
            JVAN_UNROLL for (int v = 0; v < 2; v++) scale[v] = load(p.scale + panel * BLOCK + column + v * LANES);
        JVAN_UNROLL for (int i = 0; i < M; i++)
            JVAN_UNROLL for (int v = 0; v < 2; v++)
                sum[i][v] += load(p.residual + offset + i * BLOCK + v * LANES) * scale[v];
    }
    float* to = p.to + offset;
    JVAN_UNROLL for (int i = 0; i < M; i++)
        JVAN_UNROLL for (int v = 0; v < 2; v++) store(to + i * BLOCK + v * LANES, sum[i][v]);
}

typedef void (*Tile)(const Product&, long, int, int);

template <bool PAIRS>
inline Tile tile_of(long rows) {
    // No tile has more than ROWS; the table is as long as it can be.
    static constexpr Tile tiles[] = {
        tile<1, PAIRS>,
        tile<2, PAIRS>,
        tile<3, PAIRS>,
        tile<4, PAIRS>,
        tile<5, PAIRS>,
        tile<6, PAIRS>,
        tile<ROWS < 12 ? 6 : 7, PAIRS>,
        tile<ROWS < 12 ? 6 : 8, PAIRS>,
        tile<ROWS < 12 ? 6 : 9, PAIRS>,
        tile<ROWS < 12 ? 6 : 10, PAIRS>,
        tile<ROWS < 12 ? 6 : 11, PAIRS>,
        tile<ROWS < 12 ? 6 : 12, PAIRS>,
    };
    return tiles[rows - 1];
}

// Rows [begin, end) of panels [first, last). Rows are shared out evenly: 49 are 10 + 10 + 10 + 10 + 9.
inline void multiply(const Product& p, long begin, long end, int first, int last) {
    begin = multiply_in_tiles(p, begin, end, first, last);
    const long count = end - begin;
    if (count <= 0) return;
    const long tiles = (count + ROWS - 1) / ROWS;
    for (int panel = first; panel < last; panel++) {
        for (long t = 0, m = begin; t < tiles; t++) {
            const long next = begin + count * (t + 1) / tiles;
            const Tile run = p.pairs ? tile_of<true>(next - m) : tile_of<false>(next - m);
            for (int column = 0; column < BLOCK; column += COLUMNS) run(p, m, panel, column);
            finish(p, panel, m, next);
            m = next;
        }
    }
}

// A product with weights in pairs, for rows [begin, begin + count) alone, which become rows from 0: they are rounded into
// `words`, depth / 2 · count floats.
inline Product rounded(const Product& p, long begin, long count, float* words) {
    Product q = p;
    q.from = words;
    q.row = q.chunk = p.chunk / 2;
    q.depth = p.depth / 2;
    q.chunk_stride = count * q.row;
    const long at = begin * BLOCK;
    q.to = p.to + at;
    q.residual = p.residual ? p.residual + at : nullptr;
    q.gate = p.gate ? p.gate + at : nullptr;
    for (int chunk = 0; chunk < p.depth / p.chunk; chunk++)
        for (long m = 0; m < count; m++)
            round_to_pairs(p.from + chunk * p.chunk_stride + (begin + m) * p.row, p.chunk, words + chunk * q.chunk_stride + m * q.row);
    return q;
}

constexpr int ROUNDED = 96;  // rows that are rounded at a time

// As `multiply`, from floats whatever the weights are.
inline void multiply_floats(const Product& p, long begin, long end, int first, int last, float* words) {
    if (!p.pairs) return multiply(p, begin, end, first, last);
    for (long m = begin; m < end; m += ROUNDED) {
        const long count = end - m < ROUNDED ? end - m : ROUNDED;
        multiply(rounded(p, m, count, words), 0, count, first, last);
    }
}

}  // namespace
}  // namespace jvan

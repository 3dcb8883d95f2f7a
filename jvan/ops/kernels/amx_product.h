// The product of product.h by AMX: 32 rows × 32 columns of sums in four tiles, the rows in two, the weights in two.
//
// Nothing is laid out for it: rows of words as `rounded` (gemm.h) makes them are what TDPBF16PS takes on its left, a panel of
// weights in pairs what it takes on its right, and a map in blocks can be stored to as it is.
#pragma once

# include "amx.h"
# include "product.h"

#include <initializer_list>

namespace jvan {
namespace {

#if JVAN_AMX

// Rows that are left to the dot products. For 16 words of a panel these are 32 instructions a row, so 48 cycles for three rows
// at two a cycle. Tiles load the same 32 lines of weights, keep only two sums in the making where a second tile of rows is
// missing, each of which waits for its former product, and have to be configured first. An estimate: nothing was measured.
constexpr long FEW_ROWS = 3;

constexpr long TALL = 2 * TILE_ROWS;
constexpr long LINE = BLOCK * sizeof(float);  // bytes from one row to the next, of a panel of weights and of a map in blocks

// Tiles 0 and 1 are the two halves of the upper rows' sums, 2 and 3 of the lower rows'.
template <bool LOWER>
inline void start_sums(const float* bias) {
    if (!bias) {
        JVAN_TILE(zero)(0);
        JVAN_TILE(zero)(1);
        if (LOWER) {
            JVAN_TILE(zero)(2);
            JVAN_TILE(zero)(3);
        }
        return;
    }
    // Every row of the tile is the same one of memory.
    JVAN_TILE(loadd)(0, bias, 0);
    JVAN_TILE(loadd)(1, bias + TILE_WORDS, 0);
    if (LOWER) {
        JVAN_TILE(loadd)(2, bias, 0);
        JVAN_TILE(loadd)(3, bias + TILE_WORDS, 0);
    }
}

// Tiles 4 and 5 are the upper and the lower rows, 6 and 7 the two halves of the weights.
template <bool LOWER>
inline void add_to_sums(const Product& p, const float* rows, const float* weights) {
    const long row = p.row, stride = row * long(sizeof(float));
    for (int done = 0; done < p.depth; done += p.chunk, rows += p.chunk_stride) {
        const int count = p.depth - done < p.chunk ? p.depth - done : p.chunk;
        for (int k = 0; k < count; k += TILE_WORDS, weights += TILE_WORDS * BLOCK) {
            JVAN_TILE(loadd)(6, weights, LINE);
            JVAN_TILE(loadd)(4, rows + k, stride);
            JVAN_TILE(dpbf16ps)(0, 4, 6);
            JVAN_TILE(loadd)(7, weights + TILE_WORDS, LINE);
            JVAN_TILE(dpbf16ps)(1, 4, 7);
            if (LOWER) {
                JVAN_TILE(loadd)(5, rows + k + TILE_ROWS * row, stride);
                JVAN_TILE(dpbf16ps)(2, 5, 6);
                JVAN_TILE(dpbf16ps)(3, 5, 7);
            }
        }
    }
}

template <bool LOWER>
inline void store_sums(float* to) {
    JVAN_TILE(stored)(0, to, LINE);
    JVAN_TILE(stored)(1, to + TILE_WORDS, LINE);
    if (LOWER) {
        float* lower = to + TILE_ROWS * BLOCK;
        JVAN_TILE(stored)(2, lower, LINE);
        JVAN_TILE(stored)(3, lower + TILE_WORDS, LINE);
    }
}

// to = sums + scale·residual for `rows` rows from m.
inline void add_residual(const Product& p, long m, long rows, int panel, const float* sums) {
    const long at = panel * p.to_block + m * BLOCK;
    for (int v = 0; v < BLOCK; v += LANES) {
        const vec scale = p.scale ? load(p.scale + panel * BLOCK + v) : splat(1);
        for (long i = v; i < rows * BLOCK; i += BLOCK) store(p.to + at + i, load(sums + i) + scale * load(p.residual + at + i));
    }
}

template <bool LOWER>
inline void tall_tile(const Product& p, long m, long rows, int panel) {
    start_sums<LOWER>(p.bias ? p.bias + panel * BLOCK : nullptr);
    add_to_sums<LOWER>(p, p.from + m * p.row, p.weights + panel * p.panel);
    if (p.residual) {
        // It may be what lies at `to`: the sums take another way.
        alignas(64) float sums[TALL * BLOCK];
        store_sums<LOWER>(sums);
        add_residual(p, m, rows, panel, sums);
    } else {
        store_sums<LOWER>(p.to + panel * p.to_block + m * BLOCK);
    }
    finish(p, panel, m, m + rows);
}

// Rows [begin, end), `rows` at a time.
inline void multiply_tall(const Product& p, long begin, long end, long rows, int first, int last) {
    const int upper = int(rows < TILE_ROWS ? rows : TILE_ROWS), lower = int(rows) - upper;
    TileShapes shapes;
    for (int tile : {0, 1, 4}) shapes.set(tile, upper);
    if (lower)
        for (int tile : {2, 3, 5}) shapes.set(tile, lower);
    for (int tile : {6, 7}) shapes.set(tile, TILE_WORDS);
    configure(shapes);
    for (int panel = first; panel < last; panel++)
        for (long m = begin; m < end; m += rows) (lower ? tall_tile<true> : tall_tile<false>)(p, m, rows, panel);
}

// -> the first row that is left to the dot products: all of a product whose words come in pieces that no tile fits.
inline long multiply_in_tiles(const Product& p, long begin, long end, int first, int last) {
    const bool fits = p.pairs && p.chunk % TILE_WORDS == 0 && p.depth % TILE_WORDS == 0;
    const long count = end - begin, times = count / TALL;
    if (!fits || count <= FEW_ROWS || !tiles_granted()) return begin;
    written(p.from);
    // Shared out evenly, so that one configuration serves 56 rows (28 + 28) and 196 (7 × 28): each new one clears all tiles.
    const long rows = count % TALL <= FEW_ROWS ? TALL : (count + times) / (times + 1);
    const long whole = begin + count / rows * rows, rest = end - whole;
    multiply_tall(p, begin, whole, rows, first, last);
    if (rest > FEW_ROWS) multiply_tall(p, whole, end, rest, first, last);
    JVAN_TILE(release)();
    return rest > FEW_ROWS ? end : whole;
}

#else

inline long multiply_in_tiles(const Product&, long begin, long, int, int) { return begin; }

#endif

}  // namespace
}  // namespace jvan

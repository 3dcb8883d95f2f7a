// Matrix products of strips of pixels (strips.h), one thread each: what the training operators are made of. Weights are
// packed in panels of two vectors of columns, padded with zeros as strips are.
#pragma once

# include "strips.h"

namespace jvan {
namespace {

// b(k, n) = from[k·k_step + n·n_step] · scale[k], in panels; scale may be null. One of the steps is 1. Sixteen of k at a time
// are read along the rows that they lie in, whose distance may be a power of two.
inline void pack_panels(const float* from, int64_t k_step, int64_t n_step, int64_t depth, int64_t columns,
                        const float* scale, float* to) {
    constexpr int64_t SOME = 16;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < columns; first += PANEL)
        for (int64_t begin = 0; begin < depth; begin += SOME) {
            const int64_t rows = std::min(SOME, depth - begin), count = std::min<int64_t>(PANEL, columns - first);
            const float* corner = from + begin * k_step + first * n_step;
            float* panel = to + first * depth + begin * PANEL;
            float piece[PANEL][SOME] = {};
            if (k_step == 1)
                for (int64_t n = 0; n < count; n++) std::copy(corner + n * n_step, corner + n * n_step + rows, piece[n]);
            for (int64_t k = 0; k < rows; k++) {
                const float factor = scale ? scale[begin + k] : 1.0f;
                if (k_step == 1)
                    for (int64_t n = 0; n < PANEL; n++) panel[k * PANEL + n] = piece[n][k] * factor;
                else
                    for (int64_t n = 0; n < PANEL; n++) panel[k * PANEL + n] = n < count ? corner[k * k_step + n] * factor : 0.0f;
            }
        }
}

// Where a product goes: as Rows.
struct Result {
    float* c;
    int64_t row, block = PANEL;
    const float* bias = nullptr;     // what the sums start from, PANEL-padded; null: 0
    bool add = false;                // to what c holds
    const int32_t* place = nullptr;  // row i goes to row place[i] of c; null: to row i

    Result(float* c, int64_t row, const float* bias = nullptr, bool add = false) : c(c), row(row), bias(bias), add(add) {}
    Result(float* c, int64_t row, int64_t block, const float* bias, bool add, const int32_t* place = nullptr)
        : c(c), row(row), block(block), bias(bias), add(add), place(place) {}

    float* at(int64_t i, int64_t chan) const { return c + chan / PANEL * block + (place ? place[i] : i) * row; }
};

// sums[r] (+)= Σ over `depth` of a(r, k) · b(k); a(r, k) lies at rows[r / 3][k·k_step + (r % 3)·row], b(k) at b + k·b_row.
template <int M>
JVAN_INLINE void add_outer_products(const float* const* rows, int64_t row, int64_t k_step, const float* b, int64_t b_row,
                                    int64_t depth, vec (&sum)[M][2]) {
    for (int64_t k = 0; k < depth; k++, b += b_row) {
        const vec b0 = load(b), b1 = load(b + LANES);
#pragma GCC unroll 16
        for (int r = 0; r < M; r++) {
            const float value = rows[r / 3][k * k_step + (r % 3) * row];
            sum[r][0] += value * b0;
            sum[r][1] += value * b1;
        }
    }
}

// The loops over a tile's rows are all unrolled: of one that is not the compiler indexes the sums, which keeps them in memory.
template <int M>
JVAN_INLINE void store_sums(const vec (&sum)[M][2], const Result& to, int64_t i, int64_t n) {
    float* c[M];
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) c[r] = to.at(i + r, n);
    if (to.add) {
#pragma GCC unroll 16
        for (int r = 0; r < M; r++) store(c[r], load(c[r]) + sum[r][0]), store(c[r] + LANES, load(c[r] + LANES) + sum[r][1]);
    } else {
#pragma GCC unroll 16
        for (int r = 0; r < M; r++) store(c[r], sum[r][0]), store(c[r] + LANES, sum[r][1]);
    }
}

// Rows [i, i + M) and columns [n, n + PANEL) of c (+)= a · b, where b is one panel.
template <int M>
void product_tile(const Rows& from, int64_t i, const float* b, int64_t depth, const Result& to, int64_t n) {
    constexpr int GROUPS = (M + 2) / 3;  // one pointer for three rows: x86 addresses base + {0, 1, 2}·row
    const float* rows[GROUPS];
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g++) rows[g] = from.a + (i + 3 * g) * from.row;
    vec sum[M][2];
    const vec start0 = to.bias ? load(to.bias + n) : vec{}, start1 = to.bias ? load(to.bias + n + LANES) : vec{};
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) sum[r][0] = start0, sum[r][1] = start1;
    for (int64_t k = 0; k < depth; k += PANEL, b += PANEL * PANEL) {
        add_outer_products<M>(rows, from.row, 1, b, PANEL, std::min<int64_t>(PANEL, depth - k), sum);
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) rows[g] += from.block;
    }
    store_sums<M>(sum, to, i, n);
}

// Rows [i, i + M), which are channels of x, and columns [n, n + PANEL) of c (+)= xᵀ · y over `depth` rows of both.
template <int M>
void transposed_tile(const Rows& x, int64_t i, const Rows& y, int64_t depth, const Result& to, int64_t n) {
    // These sums are of all weights, and a product of few rows: the third-level cache is slow without.
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) __builtin_prefetch(to.at(i + r, n), 1), __builtin_prefetch(to.at(i + r, n) + LANES, 1);
    const float* rows[(M + 2) / 3];
#pragma GCC unroll 4
    for (int g = 0; g < (M + 2) / 3; g++) rows[g] = x.at(0, i) + 3 * g;
    vec sum[M][2];
#pragma GCC unroll 16
    for (int r = 0; r < M; r++) sum[r][0] = sum[r][1] = vec{};
    add_outer_products<M>(rows, 1, x.row, y.at(0, n), y.row, depth, sum);
    store_sums<M>(sum, to, i, n);
}

// By number of rows; no tile has more than TALL, the tables are as long as they can be.
#define JVAN_BY_ROWS(tile)                                                                                      \
    {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>, tile<(TALL < 12 ? 6 : 7)>, tile<(TALL < 12 ? 6 : 8)>, \
     tile<(TALL < 12 ? 6 : 9)>, tile<(TALL < 12 ? 6 : 10)>, tile<(TALL < 12 ? 6 : 11)>, tile<(TALL < 12 ? 6 : 12)>}
typedef void (*ProductTile)(const Rows&, int64_t, const float*, int64_t, const Result&, int64_t);
typedef void (*TransposedTile)(const Rows&, int64_t, const Rows&, int64_t, const Result&, int64_t);
constexpr ProductTile product_tiles[] = JVAN_BY_ROWS(product_tile);
constexpr TransposedTile transposed_tiles[] = JVAN_BY_ROWS(transposed_tile);
#undef JVAN_BY_ROWS

// Weights of `depth` × any number of columns, `step` floats from one panel to the next: more than depth · PANEL where
// they are some rows of a deeper matrix.
struct Panels {
    const float* b;
    int64_t depth, step;
};

// Packed weights: from row k0 on, from column n0 on (a multiple of PANEL), of a matrix that was `packed_depth` deep.
inline Panels part(const float* packed, int64_t packed_depth, int64_t k0, int64_t n0, int64_t depth) {
    return {packed + n0 * packed_depth + k0 * PANEL, depth, packed_depth * PANEL};
}
inline Panels whole(const float* packed, int64_t depth) { return part(packed, depth, 0, 0, depth); }

// c (rows × columns) = bias + a (rows × depth) · b
inline void multiply(const Rows& from, int64_t rows, const Panels& panels, int64_t columns, const Result& to) {
    const float* b = panels.b;
    for (int64_t n = 0; n < columns; n += PANEL, b += panels.step)
        evenly(rows, TALL, [&](int64_t i, int count) { product_tiles[count - 1](from, i, b, panels.depth, to, n); });
}

// Where Σ xᵀ · y is kept, x_chans × y_chans in panels, from row k0 on.
inline Result sums_of(float* sums, int64_t x_chans, int64_t k0 = 0, bool add = true) {
    return {sums + k0 * PANEL, PANEL, x_chans * PANEL, nullptr, add};
}

// c (x_chans × y_chans) (+)= xᵀ · y over the rows of two strips: the gradient of a product's weights.
inline void multiply_transposed(const Rows& x, int64_t x_chans, const Rows& y, int64_t y_chans, int64_t rows, const Result& to) {
    const int64_t piece = x.block == PANEL ? x_chans : PANEL;  // a tile's channels lie together
    for (int64_t n = 0; n < y_chans; n += PANEL)
        for (int64_t first = 0; first < x_chans; first += piece)
            evenly(std::min(piece, x_chans - first), TALL,
                   [&](int64_t i, int count) { transposed_tiles[count - 1](x, first + i, y, rows, to, n); });
}

// Called by all threads: from dw = Σ e·vᵀ, db = Σ e and ds = Σ e·x̂, where out = … + s·(v·wᵀ + b + x̂), the gradients.
//
// That of s is Σ e·(w·v + b + x̂), for which the product w·v need not be made again.
inline void finish_scaled(int64_t chans, int64_t depth, const float* w, const float* b, const float* s, float* dw,
                          float* db, float* ds) {
#pragma omp for schedule(static)
    for (int64_t c = 0; c < chans; c++) {
        float sum = b[c] * db[c];
        for (int64_t k = 0; k < depth; k++) {
            sum += w[c * depth + k] * dw[c * depth + k];
            dw[c * depth + k] *= s[c];
        }
        ds[c] += sum;
        db[c] *= s[c];
    }
}

}  // namespace
}  // namespace jvan

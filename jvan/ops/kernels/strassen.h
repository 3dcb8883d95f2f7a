// The products of a strip by one level of Strassen's algorithm (1969), which makes seven products of quarters in place of
// eight. Its rounding errors, relative to the largest number of all four quarters, are 1.3 to 1.7 times those of plain
// products (the feed-forward's outputs and gradients at 320 × 1280, against float64), 0.3 to 1.8 times PyTorch's. A small
// quarter beside a large one has the large one's.
//
// With every matrix cut in four, c = a·b is, with signs chosen so that the left side has only differences:
//
//   m0 = (a11 - a22)(b11 - b22)   m1 = (a21 - a22) b11   m2 = a11 (b12 + b22)   m3 = a22 (b11 + b21)
//   m4 = (a11 - a12) b22   m5 = (a21 - a11)(b11 + b12)   m6 = (a22 - a12)(b21 + b22)
//   c11 = m0 + m3 + m4 - m6   c12 = m2 - m4   c21 = m1 + m3   c22 = m0 - m1 + m2 + m5
//
// The factors of aᵀ are then those of a, some in other places and with the other sign, so that a map needs one set of
// them for the product and for the gradient of its weights. They are made once for all products of a map, and sums over
// pieces of the depth, or over pictures, stay m0 to m6 to the end, so that the additions cost little.
#pragma once

# include "product_scheme.h"

namespace jvan {
namespace {

struct Strassen {
    static constexpr int PRODUCTS = 7, PARTS = 2;
    static constexpr int64_t STRIP = 4 * TALL;  // rows whose seven products are in the first caches before they are added
    typedef Factors<PRODUCTS> F;

    static int64_t factor_floats(int64_t rows, int64_t chans) { return 5 * (rows / 2) * (chans / 2); }  // two are quarters
    static int64_t panel_floats() { return PRODUCTS * STRIP * PANEL; }
    static int64_t sum_floats(int64_t rows, int64_t chans) { return PRODUCTS * (rows / 2) * (chans / 2); }
    static int64_t result_floats(int64_t rows, int64_t chans) { return rows * chans; }

    static Rows quarter(const Rows& a, int64_t rows, int64_t chans, int i, int j) {
        return {a.at(i * (rows / 2), j * (chans / 2)), a.row, a.block};
    }
    static F factors(const Rows& a, int64_t rows, int64_t chans, const int (&place)[5], int first, int last, float* scratch) {
        F f;
        for (int i = 0; i < 5; i++) f.of[place[i]] = {scratch + i * (rows / 2) * (chans / 2), PANEL, rows / 2 * PANEL};
        f.of[first] = quarter(a, rows, chans, 0, 0), f.of[last] = quarter(a, rows, chans, 1, 1);
        return f;
    }
    // Five matrices of quarter size, one after another, = f(a11, a12, a21, a22), a vector at a time, for the quarters'
    // channels [first, last). Rows of `a` are PANEL apart.
    template <class Function>
    static void each(const Rows& a, int64_t rows, int64_t chans, int64_t first, int64_t last, float* to, Function f) {
        const int64_t half = rows / 2, size = half * (chans / 2);
        for (int64_t panel = first; panel < last; panel += PANEL) {
            const float *a11 = a.at(0, panel), *a12 = a.at(0, panel + chans / 2), *a21 = a11 + half * PANEL, *a22 = a12 + half * PANEL;
            float* sums = to + panel * half;
            for (int64_t i = 0; i < half * PANEL; i += LANES, sums += LANES) {
                vec sum[5];
                f(load(a11 + i), load(a12 + i), load(a21 + i), load(a22 + i), sum);
                for (int n = 0; n < 5; n++) store(sums + n * size, sum[n]);
            }
        }
    }

    // Of `a`, whose quarters' channels [first, last) are there; the others were made before or are made later.
    static F left(const Rows& a, int64_t rows, int64_t chans, int64_t first, int64_t last, float* scratch) {
        each(a, rows, chans, first, last, scratch, [](vec a11, vec a12, vec a21, vec a22, vec (&sum)[5]) {
            sum[0] = a11 - a22, sum[1] = a21 - a22, sum[2] = a11 - a12, sum[3] = a21 - a11, sum[4] = a22 - a12;
        });
        return factors(a, rows, chans, {0, 1, 4, 5, 6}, 2, 3, scratch);
    }
    static F right(const Rows& b, int64_t rows, int64_t chans, float* scratch) {
        each(b, rows, chans, 0, chans / 2, scratch, [](vec b11, vec b12, vec b21, vec b22, vec (&sum)[5]) {
            sum[0] = b11 - b22, sum[1] = b12 + b22, sum[2] = b11 + b21, sum[3] = b11 + b12, sum[4] = b21 + b22;
        });
        return factors(b, rows, chans, {0, 2, 3, 5, 6}, 1, 4, scratch);
    }
    // Of aᵀ, with m1, m4, m5 and m6 of the other sign: a21 - a22 becomes a12 - a22.
    static F transposed(const F& a) { return {{a.of[0], a.of[6], a.of[2], a.of[3], a.of[5], a.of[4], a.of[1]}}; }

    // Seven matrices of quarter size, of b(k, n) as in pack_panels, and after them scratch memory.
    static int64_t pack_floats(int64_t depth, int64_t columns) { return sum_floats(depth, columns) + depth * columns; }
    static void pack(const float* from, int64_t k_step, int64_t n_step, int64_t depth, int64_t columns, Pairs k_pairs,
                     Pairs n_pairs, const float* scale, float* to) {
        const int64_t size = depth / 2 * (columns / 2);
        float* whole = to + PRODUCTS * size;
        pack_panels(from, k_step, n_step, depth, columns, scale, whole);
#pragma omp parallel for schedule(static)
        for (int64_t panel = 0; panel < columns / 2; panel += PANEL) {
            const float *left = whole + n_pairs.first(panel) * depth, *right = whole + n_pairs.second(panel) * depth;
            for (int64_t k = 0; k < depth / 2; k++) {
                const int64_t k1 = k_pairs.first(k) * PANEL, k2 = k_pairs.second(k) * PANEL;
                for (int64_t n = 0; n < PANEL; n += LANES) {
                    const vec b11 = load(left + k1 + n), b12 = load(right + k1 + n), b21 = load(left + k2 + n), b22 = load(right + k2 + n);
                    const vec b[] = {b11 - b22, b11, b12 + b22, b11 + b21, b22, b11 + b12, b21 + b22};
                    for (int i = 0; i < PRODUCTS; i++) store(to + i * size + panel * (depth / 2) + k * PANEL + n, b[i]);
                }
            }
        }
    }

    // From m0 to m6, `step` floats apart, a vector of each quarter of c; sign: -1 if the left side was transposed.
    static void add(const float* m, int64_t step, float sign, vec (&c)[2][2]) {
        const vec m0 = load(m), m1 = sign * load(m + step), m2 = load(m + 2 * step), m3 = load(m + 3 * step);
        const vec m4 = sign * load(m + 4 * step), m5 = sign * load(m + 5 * step), m6 = sign * load(m + 6 * step);
        c[0][0] = (m0 + m3) + (m4 - m6), c[0][1] = m2 - m4, c[1][0] = m1 + m3, c[1][1] = (m0 - m1) + (m2 + m5);
    }

    // The two panels of columns whose pairs begin at n, to the two arrays of `to`.
    static void panels(const F& a, int64_t rows, const float* packed, int64_t depth, int64_t columns, int64_t n, float* const* to,
                       const float* const* bias, const int32_t* place, float* scratch) {
        const int64_t half = rows / 2, size = depth / 2 * (columns / 2);
        evenly(half, STRIP, [&](int64_t begin, int count) {
            const F strip = a.from(begin, 0);
            for (int i = 0; i < PRODUCTS; i++)
                multiply(strip.of[i], count, part(packed + i * size, depth / 2, 0, n, depth / 2), PANEL,
                         Result(scratch + i * STRIP * PANEL, PANEL));
            for (int64_t c = 0; c < PANEL; c += LANES) {
                const vec start[2] = {bias ? load(bias[0] + c) : vec{}, bias ? load(bias[1] + c) : vec{}};
                for (int64_t i = 0; i < count; i++) {
                    vec sums[2][2];
                    add(scratch + i * PANEL + c, STRIP * PANEL, 1, sums);
                    for (int r = 0; r < 2; r++)
                        for (int j = 0; j < 2; j++) store(to[j] + place[begin + i + r * half] * PANEL + c, sums[r][j] + start[j]);
                }
            }
        });
    }

    // From sums of m0 to m6, rows × chans in panels.
    static Rows result(const float* sums, int64_t rows, int64_t chans, float* to) {
        const int64_t half = rows / 2, size = half * (chans / 2);
        const Rows c = {to, PANEL, rows * PANEL};
        for_each_vector(half, chans / 2, [&](int64_t i, int64_t n) {
            vec quarters[2][2];
            add(Rows{sums, PANEL, half * PANEL}.at(i, n), size, 1, quarters);
            for (int r = 0; r < 2; r++)
                for (int j = 0; j < 2; j++) store(const_cast<float*>(c.at(i + r * half, n + j * chans / 2)), quarters[r][j]);
        });
        return c;
    }

    // Called by all threads: from the sums of each, the gradient of weights (rows, chans).
    static void sum(const Partial& part, int64_t rows, int64_t chans, Pairs row_pairs, Pairs chan_pairs, float* to) {
        const int64_t size = rows / 2 * (chans / 2);
        const int threads = omp_get_num_threads();
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows / 2; i++)
            for (int64_t n = 0; n < chans / 2; n += LANES) {
                vec c[2][2] = {};
                for (int t = 0; t < threads; t++) {
                    vec mine[2][2];
                    add(Rows{part.parts[t], PANEL, rows / 2 * PANEL}.at(i, n), size, -1, mine);
                    for (int k = 0; k < 4; k++) c[k / 2][k % 2] += mine[k / 2][k % 2];
                }
                for (int k = 0; k < 4; k++)
                    store(to + (k / 2 ? row_pairs.second(i) : row_pairs.first(i)) * chans +
                              (k % 2 ? chan_pairs.second(n) : chan_pairs.first(n)), c[k / 2][k % 2]);
            }
    }
};

// c (+)= a · b for each factor, where the weights' factors were `packed_depth` × `packed_columns` in all: rows from k on,
// `depth` of them, all columns. The sums' panels follow one another.
template <class Scheme>
void add_products(const typename Scheme::F& a, int64_t rows, const float* packed, int64_t packed_depth, int64_t packed_columns,
                  int64_t k, int64_t depth, float* sums, bool add) {
    constexpr int P = Scheme::PARTS;
    const int64_t size = packed_depth / P * (packed_columns / P), block = rows / P * PANEL;
    for (int i = 0; i < Scheme::PRODUCTS; i++)
        multiply(a.of[i], rows / P, part(packed + i * size, packed_depth / P, k / P, 0, depth / P), packed_columns / P,
                 Result(sums + i * block / PANEL * (packed_columns / P), PANEL, block, nullptr, add));
}

// c (+)= xᵀ · y for each factor, x_chans × y_chans of it, where c has `c_rows` rows: the factors of the one side, those of
// the other, and where in the first of c's sums; the next begin `size` floats later.
template <class Scheme>
void add_gradients(const typename Scheme::F& x, int64_t x_chans, const typename Scheme::F& y, int64_t y_chans, int64_t rows,
                   float* sums, int64_t size, bool add, int64_t c_rows, int64_t first_row = 0) {
    const typename Scheme::F left = Scheme::transposed(x);
    for (int i = 0; i < Scheme::PRODUCTS; i++)
        multiply_transposed(left.of[i], x_chans, y.of[i], y_chans, rows, sums_of(sums + i * size, c_rows, first_row, add));
}

}  // namespace
}  // namespace jvan

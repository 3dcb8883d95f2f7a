// What a way to make the products of a strip consists of, and the first way: as they stand. strassen.h has the other.
#pragma once

# include "pointwise_product.h"

namespace jvan {
namespace {

// What one side of a product is made into: PRODUCTS matrices, PARTS times smaller both ways.
template <int PRODUCTS>
struct Factors {
    Rows of[PRODUCTS];

    Factors from(int64_t row, int64_t chan) const {
        Factors f = *this;
        for (Rows& r : f.of) r.a = r.at(row, chan);
        return f;
    }
};

// Channels are paired so that both of a pair are in the same `group`: the q-th first and, half a group later, second.
struct Pairs {
    int64_t group;

    int64_t first(int64_t q) const { return q / (group / 2) * group + q % (group / 2); }
    int64_t second(int64_t q) const { return first(q) + group / 2; }
};

struct Plain {
    static constexpr int PRODUCTS = 1, PARTS = 1;
    typedef Factors<PRODUCTS> F;

    // Floats of the left or right side's factors, of `panels`' scratch memory, of packed weights, of a product's sums, of
    // what `result` makes of them.
    static int64_t factor_floats(int64_t, int64_t) { return 0; }
    static int64_t panel_floats() { return 0; }
    static int64_t pack_floats(int64_t depth, int64_t columns) { return depth * columns; }
    static int64_t sum_floats(int64_t rows, int64_t chans) { return rows * chans; }
    static int64_t result_floats(int64_t, int64_t) { return 0; }

    static F left(const Rows& a, int64_t, int64_t, int64_t, int64_t, float*) { return {{a}}; }
    static F right(const Rows& b, int64_t, int64_t, float*) { return {{b}}; }
    static F transposed(const F& a) { return a; }

    static void pack(const float* from, int64_t k_step, int64_t n_step, int64_t depth, int64_t columns, Pairs, Pairs,
                     const float* scale, float* to) {
        pack_panels(from, k_step, n_step, depth, columns, scale, to);
    }
    // A panel of columns from n on, to the one array of `to`.
    static void panels(const F& a, int64_t rows, const float* packed, int64_t depth, int64_t, int64_t n, float* const* to,
                       const float* const* bias, const int32_t* place, float*) {
        multiply(a.of[0], rows, part(packed, depth, 0, n, depth), PANEL, Result(to[0], PANEL, 0, bias ? bias[0] : nullptr, false, place));
    }
    static Rows result(const float* sums, int64_t rows, int64_t, float*) { return {sums, PANEL, rows * PANEL}; }
    static void sum(const Partial& part, int64_t rows, int64_t chans, Pairs, Pairs, float* to) { part.sum_panels(to, rows, chans); }
};

}  // namespace
}  // namespace jvan

// The products of a block's attention branch in training, with everything between two depthwise convolutions in one pass:
//
//   x̂ = BatchNorm(x);  p = x̂·W₁ᵀ + b₁;  u = gelu(p);  [a = depthwise(depthwise(u))]
//   g = a·W₂ᵀ + b₂;  y = (u·g)·W₃ᵀ + b₃;  out = x + keep·s·(y + x̂)
//
// keep, one number for each picture, is drop path. The backward pass makes x̂ and u·g again, and g where it was not kept: a
// fifth of that kernel's products.
#pragma once

# include "norm.h"
# include "pointwise_product.h"

namespace jvan {
namespace {

struct Map {
    int64_t rows, chans, pixels;  // rows = pictures · pixels
};

// x → p, u
inline void attention_in(const Map& map, const float* x, const float* mean, const float* rstd, const float* gamma,
                         const float* beta, const float* w1, const float* b1, float* p, float* u) {
    enum class Own { X, NORMAL, SUMS, COUNT };
    enum class Shared { NORM, PANELS, BIAS, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(mean, rstd, gamma, beta, chans, shared, Shared::NORM);
    float* panels = shared.get(Shared::PANELS, width * chans);
    pack_panels(w1, 1, chans, chans, chans, nullptr, panels);
    const float* bias = padded_copy(b1, chans, shared.get(Shared::BIAS, width));
    const Strips strips(map.rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin, size = strips.longest() * pitch;
        float *normal = own.get(Own::NORMAL, size), *sums = own.get(Own::SUMS, size);
        const Rows from = strip_of(x + begin * chans, count, chans, own.get(Own::X, size));
        normalise(norm, from, count, width, normal, pitch);
        multiply({normal, pitch}, count, whole(panels, chans), width, Result(sums, pitch, bias));
        store_strip(p + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(sums + i * pitch + c); });
        store_strip(u + begin * chans, count, chans, [&](int64_t i, int64_t c) { return gelu(load(sums + i * pitch + c)); });
    }
}

// x, u, a → out, and g unless g_kept is null
inline void attention_out(const Map& map, const float* x, const float* u, const float* a, const float* mean,
                          const float* rstd, const float* gamma, const float* beta, const float* w2, const float* b2,
                          const float* w3, const float* b3, const float* s, const float* keep, float* out, float* g_kept) {
    enum class Own { X, U, A, GATED, SUMS, COUNT };
    enum class Shared { NORM, PANELS2, PANELS3, BIAS2, BIAS3, SCALE, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(mean, rstd, gamma, beta, chans, shared, Shared::NORM);
    float *panels2 = shared.get(Shared::PANELS2, width * chans), *panels3 = shared.get(Shared::PANELS3, width * chans);
    pack_panels(w2, 1, chans, chans, chans, nullptr, panels2);
    pack_panels(w3, 1, chans, chans, chans, nullptr, panels3);
    const float* bias2 = padded_copy(b2, chans, shared.get(Shared::BIAS2, width));
    const float* bias3 = padded_copy(b3, chans, shared.get(Shared::BIAS3, width));
    const float* scale = padded_copy(s, chans, shared.get(Shared::SCALE, width));
    const Strips strips(map.rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < strips.count; t++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, size = strips.longest() * pitch;
        float *gated = own.get(Own::GATED, size), *sums = own.get(Own::SUMS, size);
        const Rows from = strip_of(x + begin * chans, count, chans, own.get(Own::X, size));
        const Rows uu = strip_of(u + begin * chans, count, chans, own.get(Own::U, size));
        multiply(strip_of(a + begin * chans, count, chans, own.get(Own::A, size)), count, whole(panels2, chans), width,
                 Result(gated, pitch, bias2));
        if (g_kept)
            store_strip(g_kept + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(gated + i * pitch + c); });
        for_each_vector(count, width, [&](int64_t i, int64_t c) {
            store(gated + i * pitch + c, load(gated + i * pitch + c) * load(uu.a + i * uu.row + c));
        });
        multiply({gated, pitch}, count, whole(panels3, chans), width, Result(sums, pitch, bias3));
        store_strip(out + begin * chans, count, chans, [&](int64_t i, int64_t c) {
            const vec x_i = load(from.a + i * from.row + c), factor = keep[(begin + i) / map.pixels] * load(scale + c);
            return x_i + factor * (load(sums + i * pitch + c) + apply(norm, x_i, c));
        });
    }
}

// dout, x, u, a, and g unless g_kept is null → da; du by way of the gate; gradients of W₂, b₂, W₃, b₃ and s
inline void attention_out_backward(const Map& map, const float* dout, const float* x, const float* u, const float* a,
                                   const float* mean, const float* rstd, const float* gamma, const float* beta,
                                   const float* w2, const float* b2, const float* w3, const float* b3, const float* s,
                                   const float* keep, const float* g_kept, float* da, float* du, float* dw2, float* db2,
                                   float* dw3, float* db3, float* ds) {
    enum class Own { SUM2, SUM3, SUMS, E, DV, GATE, DGATE, DOUT, A, U, X, KEPT, COUNT };
    enum class Shared { NORM, PANELS2, BACK2, BACK3, BIAS2, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(mean, rstd, gamma, beta, chans, shared, Shared::NORM);
    float *panels2 = shared.get(Shared::PANELS2, g_kept ? 0 : width * chans), *back2 = shared.get(Shared::BACK2, width * chans), *back3 = shared.get(Shared::BACK3, width * chans);
    if (!g_kept) pack_panels(w2, 1, chans, chans, chans, nullptr, panels2);
    pack_panels(w2, chans, 1, chans, chans, nullptr, back2);
    pack_panels(w3, chans, 1, chans, chans, s, back3);
    const float* bias2 = padded_copy(b2, chans, shared.get(Shared::BIAS2, width));
    const Strips strips(map.rows, chans);
    Partial part2, part3, part_sums;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const int64_t size = strips.longest() * pitch;
        float *sum2 = own.zeros(Own::SUM2, chans * width), *sum3 = own.zeros(Own::SUM3, chans * width), *sums = own.zeros(Own::SUMS, 3 * width);
        float *e = own.get(Own::E, size), *dv = own.get(Own::DV, size), *gate = own.get(Own::GATE, size), *dgate = own.get(Own::DGATE, size);
        part2.is(sum2), part3.is(sum3), part_sums.is(sums);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < strips.count; t++) {
            const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, at = begin * chans;
            const Rows top = strip_of(dout + at, count, chans, own.get(Own::DOUT, size));
            const Rows aa = strip_of(a + at, count, chans, own.get(Own::A, size));
            const Rows uu = strip_of(u + at, count, chans, own.get(Own::U, size));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                store(e + i * pitch + c, keep[(begin + i) / map.pixels] * load(top.a + i * top.row + c));
            });
            multiply({e, pitch}, count, whole(back3, chans), width, Result(dv, pitch));
            Rows kept = {gate, pitch};
            if (g_kept)
                kept = strip_of(g_kept + at, count, chans, own.get(Own::KEPT, size));
            else
                multiply(aa, count, whole(panels2, chans), width, Result(gate, pitch, bias2));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const int64_t j = i * pitch + c;
                const vec g = load(kept.a + i * kept.row + c), d = load(dv + j), u_i = load(uu.a + i * uu.row + c);
                store(gate + j, g * u_i);
                store(dgate + j, d * u_i);
                store(dv + j, d * g);
            });
            store_strip(du + at, count, chans, [&](int64_t i, int64_t c) { return load(dv + i * pitch + c); });
            multiply_transposed({e, pitch}, chans, {gate, pitch}, width, count, sums_of(sum3, chans));
            multiply_transposed({dgate, pitch}, chans, aa, width, count, sums_of(sum2, chans));
            add_columns({dgate, pitch}, count, width, sums + width);
            const Rows from = strip_of(x + at, count, chans, own.get(Own::X, size));
            normalise(norm, from, count, width, gate, pitch);
            for (int64_t c = 0; c < width; c += LANES) {
                vec total = {}, product = {};
                for (int64_t i = 0; i < count; i++) {
                    const vec e_i = load(e + i * pitch + c);
                    total += e_i;
                    product += e_i * load(gate + i * pitch + c);
                }
                store(sums + c, load(sums + c) + total);
                store(sums + 2 * width + c, load(sums + 2 * width + c) + product);
            }
            multiply({dgate, pitch}, count, whole(back2, chans), width, Result(dv, pitch));
            store_strip(da + at, count, chans, [&](int64_t i, int64_t c) { return load(dv + i * pitch + c); });
        }
        part2.sum_panels(dw2, chans, chans);
        part3.sum_panels(dw3, chans, chans);
        part_sums.sum(db3, 1, chans, 0);
        part_sums.sum(db2, 1, chans, 0, width);
        part_sums.sum(ds, 1, chans, 0, 2 * width);
        finish_scaled(chans, chans, w3, b3, s, dw3, db3, ds);
    }
}

// dout, du, p, x → gradient of x̂ (the shortcut's part with it); gradients of W₁ and b₁; sums (2, C) for the BatchNorm's
inline void attention_in_backward(const Map& map, const float* dout, const float* du, const float* du_gate,
                                  const float* p, const float* x, const float* mean, const float* rstd,
                                  const float* gamma, const float* beta, const float* w1, const float* s,
                                  const float* keep, float* dnormal, float* dw1, float* db1, float* norm_sums) {
    enum class Own { SUM1, SUMS, DP, NORMAL, RESULT, DOUT, DU, DU_GATE, P, X, COUNT };
    enum class Shared { NORM, BACK, SCALE, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(mean, rstd, gamma, beta, chans, shared, Shared::NORM);
    float* back = shared.get(Shared::BACK, width * chans);
    pack_panels(w1, chans, 1, chans, chans, nullptr, back);
    const float* scale = padded_copy(s, chans, shared.get(Shared::SCALE, width));
    const Strips strips(map.rows, chans);
    Partial part1, part_sums;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const int64_t size = strips.longest() * pitch;
        float *sum1 = own.zeros(Own::SUM1, chans * width), *sums = own.zeros(Own::SUMS, 3 * width);
        float *dp = own.get(Own::DP, size), *normal = own.get(Own::NORMAL, size), *result = own.get(Own::RESULT, size);
        part1.is(sum1), part_sums.is(sums);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < strips.count; t++) {
            const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, at = begin * chans;
            const Rows top = strip_of(dout + at, count, chans, own.get(Own::DOUT, size));
            const Rows through = strip_of(du + at, count, chans, own.get(Own::DU, size));
            const Rows gate = strip_of(du_gate + at, count, chans, own.get(Own::DU_GATE, size));
            const Rows before = strip_of(p + at, count, chans, own.get(Own::P, size));
            const Rows from = strip_of(x + at, count, chans, own.get(Own::X, size));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const vec d = load(through.a + i * through.row + c) + load(gate.a + i * gate.row + c);
                store(dp + i * pitch + c, d * gelu_derivative(load(before.a + i * before.row + c)));
            });
            normalise(norm, from, count, width, normal, pitch);
            multiply_transposed({dp, pitch}, chans, {normal, pitch}, width, count, sums_of(sum1, chans));
            add_columns({dp, pitch}, count, width, sums);
            multiply({dp, pitch}, count, whole(back, chans), width, Result(result, pitch));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const vec shortcut = keep[(begin + i) / map.pixels] * load(scale + c) * load(top.a + i * top.row + c);
                store(result + i * pitch + c, load(result + i * pitch + c) + shortcut);
            });
            add_norm_sums(norm, {result, pitch}, from, count, width, sums + width, sums + 2 * width);
            store_strip(dnormal + at, count, chans, [&](int64_t i, int64_t c) { return load(result + i * pitch + c); });
        }
        part1.sum_panels(dw1, chans, chans);
        part_sums.sum(db1, 1, chans, 0);
        part_sums.sum(norm_sums, 2, chans, width, width);
    }
}

}  // namespace
}  // namespace jvan

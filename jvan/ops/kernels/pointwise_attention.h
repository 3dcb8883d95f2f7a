// The products of a block's attention branch in training, with everything between two depthwise convolutions in one pass:
//
//   x̂ = BatchNorm(x);  p = proj_1(x̂);  u = gelu(p);  [a = dw_d(dw(u))]
//   mask = pw(a);  y = x + keep·scale·(proj_2(u·mask) + x̂)
//
// keep, one number for each picture, is drop path. The backward pass makes x̂ and u·mask again, and the mask where it was not
// kept: a fifth of that kernel's products.
#pragma once

# include "arguments.h"
# include "norm.h"
# include "pointwise_product.h"

namespace jvan {
namespace {

struct Map {
    int64_t rows, chans, pixels;  // rows = pictures · pixels
};

struct AttentionIn {
    Input x, mean, rstd, gamma, beta, w_proj_1, b_proj_1;
    Output p, u;
};

inline void attention_in(const Map& map, const AttentionIn& args) {
    enum class Own { X, NORMAL, SUMS, COUNT };
    enum class Shared { NORM, PANELS, BIAS, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.beta, chans, shared, Shared::NORM);
    float* panels = shared.get(Shared::PANELS, width * chans);
    pack_panels(args.w_proj_1, 1, chans, chans, chans, nullptr, panels);
    const float* bias = padded_copy(args.b_proj_1, chans, shared.get(Shared::BIAS, width));
    const Strips strips(map.rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin, size = strips.longest() * pitch;
        float *normal = own.get(Own::NORMAL, size), *sums = own.get(Own::SUMS, size);
        const Rows from = strip_of(args.x + begin * chans, count, chans, own.get(Own::X, size));
        normalise(norm, from, count, width, normal, pitch);
        multiply({normal, pitch}, count, whole(panels, chans), width, Result(sums, pitch, bias));
        store_strip(args.p + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(sums + i * pitch + c); });
        store_strip(args.u + begin * chans, count, chans, [&](int64_t i, int64_t c) { return gelu(load(sums + i * pitch + c)); });
    }
}

struct AttentionOut {
    Input x, u, a, mean, rstd, gamma, beta, w_pw, b_pw, w_proj_2, b_proj_2, scale, keep;
    Output y;
    float* mask = nullptr;  // null: not kept
};

inline void attention_out(const Map& map, const AttentionOut& args) {
    enum class Own { X, U, A, GATED, SUMS, COUNT };
    enum class Shared { NORM, PW, PROJ_2, B_PW, B_PROJ_2, SCALE, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.beta, chans, shared, Shared::NORM);
    float *pw = shared.get(Shared::PW, width * chans), *proj_2 = shared.get(Shared::PROJ_2, width * chans);
    pack_panels(args.w_pw, 1, chans, chans, chans, nullptr, pw);
    pack_panels(args.w_proj_2, 1, chans, chans, chans, nullptr, proj_2);
    const float* b_pw = padded_copy(args.b_pw, chans, shared.get(Shared::B_PW, width));
    const float* b_proj_2 = padded_copy(args.b_proj_2, chans, shared.get(Shared::B_PROJ_2, width));
    const float* scale = padded_copy(args.scale, chans, shared.get(Shared::SCALE, width));
    const Strips strips(map.rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < strips.count; t++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, size = strips.longest() * pitch;
        float *gated = own.get(Own::GATED, size), *sums = own.get(Own::SUMS, size);
        const Rows from = strip_of(args.x + begin * chans, count, chans, own.get(Own::X, size));
        const Rows uu = strip_of(args.u + begin * chans, count, chans, own.get(Own::U, size));
        multiply(strip_of(args.a + begin * chans, count, chans, own.get(Own::A, size)), count, whole(pw, chans), width,
                 Result(gated, pitch, b_pw));
        if (args.mask)
            store_strip(args.mask + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(gated + i * pitch + c); });
        for_each_vector(count, width, [&](int64_t i, int64_t c) {
            store(gated + i * pitch + c, load(gated + i * pitch + c) * load(uu.a + i * uu.row + c));
        });
        multiply({gated, pitch}, count, whole(proj_2, chans), width, Result(sums, pitch, b_proj_2));
        store_strip(args.y + begin * chans, count, chans, [&](int64_t i, int64_t c) {
            const vec x_i = load(from.a + i * from.row + c), factor = args.keep[(begin + i) / map.pixels] * load(scale + c);
            return x_i + factor * (load(sums + i * pitch + c) + apply(norm, x_i, c));
        });
    }
}

struct AttentionOutBackward {
    Input dout, x, u, a, mean, rstd, gamma, beta, w_pw, b_pw, w_proj_2, b_proj_2, scale, keep;
    const float* mask = nullptr;  // null: to be made again
    Output da, du_mask;           // du_mask: the part of u's gradient that comes from its product with the mask
    Output dw_pw, db_pw, dw_proj_2, db_proj_2, dscale;
};

inline void attention_out_backward(const Map& map, const AttentionOutBackward& args) {
    enum class Own { SUM_PW, SUM_PROJ_2, SUMS, E, DV, GATED, DMASK, DOUT, A, U, X, MASK, COUNT };
    enum class Shared { NORM, PW, PW_BACK, PROJ_2_BACK, B_PW, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.beta, chans, shared, Shared::NORM);
    float* pw = shared.get(Shared::PW, args.mask ? 0 : width * chans);
    float *pw_back = shared.get(Shared::PW_BACK, width * chans), *proj_2_back = shared.get(Shared::PROJ_2_BACK, width * chans);
    if (!args.mask) pack_panels(args.w_pw, 1, chans, chans, chans, nullptr, pw);
    pack_panels(args.w_pw, chans, 1, chans, chans, nullptr, pw_back);
    pack_panels(args.w_proj_2, chans, 1, chans, chans, args.scale, proj_2_back);
    const float* b_pw = padded_copy(args.b_pw, chans, shared.get(Shared::B_PW, width));
    const Strips strips(map.rows, chans);
    Partial part_pw, part_proj_2, part_sums;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const int64_t size = strips.longest() * pitch;
        float *sum_pw = own.zeros(Own::SUM_PW, chans * width), *sum_proj_2 = own.zeros(Own::SUM_PROJ_2, chans * width);
        float* sums = own.zeros(Own::SUMS, 3 * width);
        float *e = own.get(Own::E, size), *dv = own.get(Own::DV, size);
        float *gated = own.get(Own::GATED, size), *dmask = own.get(Own::DMASK, size);
        part_pw.is(sum_pw), part_proj_2.is(sum_proj_2), part_sums.is(sums);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < strips.count; t++) {
            const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, at = begin * chans;
            const Rows top = strip_of(args.dout + at, count, chans, own.get(Own::DOUT, size));
            const Rows aa = strip_of(args.a + at, count, chans, own.get(Own::A, size));
            const Rows uu = strip_of(args.u + at, count, chans, own.get(Own::U, size));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                store(e + i * pitch + c, args.keep[(begin + i) / map.pixels] * load(top.a + i * top.row + c));
            });
            multiply({e, pitch}, count, whole(proj_2_back, chans), width, Result(dv, pitch));
            Rows mask = {gated, pitch};
            if (args.mask)
                mask = strip_of(args.mask + at, count, chans, own.get(Own::MASK, size));
            else
                multiply(aa, count, whole(pw, chans), width, Result(gated, pitch, b_pw));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const int64_t j = i * pitch + c;
                const vec m = load(mask.a + i * mask.row + c), d = load(dv + j), u_i = load(uu.a + i * uu.row + c);
                store(gated + j, m * u_i);
                store(dmask + j, d * u_i);
                store(dv + j, d * m);
            });
            store_strip(args.du_mask + at, count, chans, [&](int64_t i, int64_t c) { return load(dv + i * pitch + c); });
            multiply_transposed({e, pitch}, chans, {gated, pitch}, width, count, sums_of(sum_proj_2, chans));
            multiply_transposed({dmask, pitch}, chans, aa, width, count, sums_of(sum_pw, chans));
            add_columns({dmask, pitch}, count, width, sums + width);
            const Rows from = strip_of(args.x + at, count, chans, own.get(Own::X, size));
            float* normal = gated;  // no longer needed
            normalise(norm, from, count, width, normal, pitch);
            for (int64_t c = 0; c < width; c += LANES) {
                vec total = {}, product = {};
                for (int64_t i = 0; i < count; i++) {
                    const vec e_i = load(e + i * pitch + c);
                    total += e_i;
                    product += e_i * load(normal + i * pitch + c);
                }
                store(sums + c, load(sums + c) + total);
                store(sums + 2 * width + c, load(sums + 2 * width + c) + product);
            }
            multiply({dmask, pitch}, count, whole(pw_back, chans), width, Result(dv, pitch));
            store_strip(args.da + at, count, chans, [&](int64_t i, int64_t c) { return load(dv + i * pitch + c); });
        }
        part_pw.sum_panels(args.dw_pw, chans, chans);
        part_proj_2.sum_panels(args.dw_proj_2, chans, chans);
        part_sums.sum(args.db_proj_2, 1, chans, 0);
        part_sums.sum(args.db_pw, 1, chans, 0, width);
        part_sums.sum(args.dscale, 1, chans, 0, 2 * width);
        finish_scaled(chans, chans, args.w_proj_2, args.b_proj_2, args.scale, args.dw_proj_2, args.db_proj_2, args.dscale);
    }
}

struct AttentionInBackward {
    Input dout, du, du_mask, p, x, mean, rstd, gamma, beta, w_proj_1, scale, keep;
    Output dnormal, dw_proj_1, db_proj_1;  // dnormal: the gradient of x̂, the shortcut's part with it
    Output norm_sums;                      // (2, C), what the BatchNorm's gradients are made of
};

inline void attention_in_backward(const Map& map, const AttentionInBackward& args) {
    enum class Own { SUM_PROJ_1, SUMS, DP, NORMAL, RESULT, DOUT, DU, DU_MASK, P, X, COUNT };
    enum class Shared { NORM, BACK, SCALE, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans);
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.beta, chans, shared, Shared::NORM);
    float* back = shared.get(Shared::BACK, width * chans);
    pack_panels(args.w_proj_1, chans, 1, chans, chans, nullptr, back);
    const float* scale = padded_copy(args.scale, chans, shared.get(Shared::SCALE, width));
    const Strips strips(map.rows, chans);
    Partial part_proj_1, part_sums;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const int64_t size = strips.longest() * pitch;
        float *sum_proj_1 = own.zeros(Own::SUM_PROJ_1, chans * width), *sums = own.zeros(Own::SUMS, 3 * width);
        float *dp = own.get(Own::DP, size), *normal = own.get(Own::NORMAL, size), *result = own.get(Own::RESULT, size);
        part_proj_1.is(sum_proj_1), part_sums.is(sums);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < strips.count; t++) {
            const int64_t begin = strips.begin(t), count = strips.begin(t + 1) - begin, at = begin * chans;
            const Rows top = strip_of(args.dout + at, count, chans, own.get(Own::DOUT, size));
            const Rows from_dw = strip_of(args.du + at, count, chans, own.get(Own::DU, size));
            const Rows from_mask = strip_of(args.du_mask + at, count, chans, own.get(Own::DU_MASK, size));
            const Rows before = strip_of(args.p + at, count, chans, own.get(Own::P, size));
            const Rows from = strip_of(args.x + at, count, chans, own.get(Own::X, size));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const vec d = load(from_dw.a + i * from_dw.row + c) + load(from_mask.a + i * from_mask.row + c);
                store(dp + i * pitch + c, d * gelu_derivative(load(before.a + i * before.row + c)));
            });
            normalise(norm, from, count, width, normal, pitch);
            multiply_transposed({dp, pitch}, chans, {normal, pitch}, width, count, sums_of(sum_proj_1, chans));
            add_columns({dp, pitch}, count, width, sums);
            multiply({dp, pitch}, count, whole(back, chans), width, Result(result, pitch));
            for_each_vector(count, width, [&](int64_t i, int64_t c) {
                const vec shortcut = args.keep[(begin + i) / map.pixels] * load(scale + c) * load(top.a + i * top.row + c);
                store(result + i * pitch + c, load(result + i * pitch + c) + shortcut);
            });
            add_norm_sums(norm, {result, pitch}, from, count, width, sums + width, sums + 2 * width);
            store_strip(args.dnormal + at, count, chans, [&](int64_t i, int64_t c) { return load(result + i * pitch + c); });
        }
        part_proj_1.sum_panels(args.dw_proj_1, chans, chans);
        part_sums.sum(args.db_proj_1, 1, chans, 0);
        part_sums.sum(args.norm_sums, 2, chans, width, width);
    }
}

}  // namespace
}  // namespace jvan

// The gradients of pointwise_feed_forward.h.
#pragma once

# include "pointwise_feed_forward.h"

namespace jvan {
namespace {

struct FeedForwardGradients {
    Input dout;
    const float* h = nullptr;  // null: to be made again
    Output dnormal, dw_fc1, db_fc1, dw_dw, db_dw, dw_fc2, db_fc2, dscale;  // dnormal: the gradient of x̂
    Output norm_sums;                                                      // (2, C), what the BatchNorm's gradients are made of
};

// What a thread sums over its groups.
struct FeedForwardSums {
    bool begun;  // false: w1 and w2 hold nothing yet
    float *w1, *w2, *taps, *bias1, *of_rows;  // of_rows: Σ e, then the BatchNorm's two
};

// One group of bands, one thread.
template <class Scheme>
struct FeedForwardBackward {
    static constexpr int PARTS = Scheme::PARTS;
    typedef typename Scheme::F F;
    const FeedForward& map;
    const FeedForwardInput& in;
    const PackedFeedForward<Scheme>& weights;
    const FeedForwardGradients& to;
    const float *back2, *back1, *reversed;  // of fc2's weight times the scale, fc1's and the taps
    const FeedForwardSums& sums;
    const Group& group;
    const std::vector<Frames>&h, &dt;
    const int32_t *h_places, *dt_places;
    float *factors, *products;  // scratch memory of Scheme

    int64_t normal_halo() const { return to.h ? 0 : 2; }

    // keep·dout, a row more around each band.
    Rows read(float* memory, float* copy) const {
        const int64_t width = padded(map.chans), block = group.pixels(1) * PANEL;
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Rows top = strip_of(to.dout + band.at(1) * map.chans, band.pixels(1), map.chans, copy);
            const Rows e = {memory + group.before[1][b] * PANEL, PANEL, block};
            const float kept = in.keep[band.picture];
            for_each_vector(band.pixels(1), width, [&](int64_t i, int64_t c) {
                store(const_cast<float*>(e.at(i, c)), kept * load(top.at(i, c)));
            });
            add_columns({e.at(band.above(1), 0), PANEL, block}, band.pixels(0), width, sums.of_rows);
        }
        return {memory, PANEL, block};
    }

    // The panels from k + c on, `step` apart, that are made together: h and the gradient of gelu(t) into their frames.
    void open(int64_t k, int64_t c, int64_t step, const F& normal, const F& e) const {
        const int64_t at = k / PARTS + c, hidden = padded(map.hidden);
        float *const hs[] = {h.front().data, h.back().data}, *const dts[] = {dt.front().data, dt.back().data};
        const float* bias[] = {weights.bias1 + k + c, weights.bias1 + k + c + (PARTS - 1) * step};
        if (!to.h) Scheme::panels(normal, group.pixels(2), weights.into, map.chans, hidden, at, hs, bias, h_places, products);
        Scheme::panels(e, group.pixels(1), back2, map.chans, hidden, at, dts, nullptr, dt_places, products);
    }

    // A panel from k on: the gradient of t takes the place of gelu(t)'s, and gelu(t) goes to `t`.
    void middle(int64_t k, const Frames& h, const Frames& dt, float* t) const {
        h.each([&](const Framed& frame, int64_t b) {
            const Band& band = group.bands[b];
            if (to.h) frame.read(frame.first, frame.first + frame.rows, to.h + map.kept(k, band.picture, frame.first));
            convolve(frame, weights.taps + 9 * k, weights.bias + k, band.first(1), band.last(1), t + group.before[1][b] * PANEL);
        });
        dt.each([&](const Framed& frame, int64_t b) {
            float* value = t + group.before[1][b] * PANEL;
            for (int64_t y = frame.first; y < frame.first + frame.rows; y++, value += frame.width * PANEL) {
                float* grad = frame.at(y, 0);
                for (int64_t i = 0; i < frame.width * PANEL; i += LANES) {
                    vec result;
                    store(grad + i, load(grad + i) * gelu_derivative(load(value + i), result));
                    store(value + i, result);
                }
            }
        });
    }

    // A panel's gradients of the taps, of their bias and of b₁; that of h goes to `dh`.
    void convolution(int64_t k, const Frames& h, const Frames& dt, float* dh) const {
        std::vector<Framed> tops;
        dt.each([&](const Framed& frame, int64_t) { tops.push_back(frame); });
        h.each([&](const Framed& frame, int64_t b) {
            const Band& band = group.bands[b];
            add_tap_gradients(frame, tops[b], band.top, band.bottom, sums.taps + 10 * k);
            convolve(tops[b], reversed + 9 * k, nullptr, band.top, band.bottom, dh + group.before[0][b] * PANEL);
        });
        add_columns({dh, PANEL}, group.pixels(0), PANEL, sums.bias1 + k);
    }

    // The gradients of W₂ and W₁ at the hidden channels from `at` on, as their sums are numbered.
    void add_gradients2(int64_t at, const F& e, const F& gelu) const {
        const int64_t chans = map.chans / PARTS;
        bool add = sums.begun;
        group.each_run(1, 1, [&](int64_t count, int64_t before, int64_t) {
            add_gradients<Scheme>(e.from(before, 0), chans, gelu.from(before, 0), PANEL, count / PARTS, sums.w2 + at * chans,
                                  chans * (padded(map.hidden) / PARTS), add, chans);
            add = true;
        });
    }
    void add_gradients1(int64_t at, const F& dh, const F& normal) const {
        const int64_t width = padded(map.chans) / PARTS, hidden = map.hidden / PARTS;
        bool add = sums.begun;
        group.each_run(0, normal_halo(), [&](int64_t count, int64_t before, int64_t before_normal) {
            add_gradients<Scheme>(dh.from(before, 0), std::min<int64_t>(PANEL, hidden - at), normal.from(before_normal, 0), width,
                                  count / PARTS, sums.w1, hidden * width, add, hidden, at);
            add = true;
        });
    }

    // Hidden channels [k, k + some), a panel of each part of them at a time: what these need fits into the second-level
    // cache, which all of them would not.
    void chunk(int64_t k, int64_t some, const F& normal, const F& right, const F& e, float* t, float* dh, float* dnormal) const {
        const int64_t inner = group.pixels(0), block = inner * PANEL, outer = group.pixels(1) * PANEL, step = some / PARTS;
        float* gelu_factors = factors + Scheme::factor_floats(inner, some);
        F left;
        for (int64_t c = 0; c < step; c += PANEL) {
            open(k, c, step, normal, e);
            for (int j = 0; j < PARTS; j++) middle(k + c + j * step, h[j], dt[j], t + j * outer);
            add_gradients2(k / PARTS + c, e, Scheme::right({t, PANEL, outer}, inner, PARTS * PANEL, gelu_factors));
            for (int j = 0; j < PARTS; j++) convolution(k + c + j * step, h[j], dt[j], dh + (c + j * step) / PANEL * block);
            left = Scheme::left({dh, PANEL, block}, inner, some, c, c + PANEL, factors);
            add_gradients1(k / PARTS + c, left.from(0, c), right);
        }
        add_products<Scheme>(left, inner, back1, map.hidden, padded(map.chans), k, std::min(some, map.hidden - k), dnormal, k > 0);
    }

    void write(const Rows& result, float* copy) const {
        const int64_t width = padded(map.chans);
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Rows from = strip_of(in.x + band.at(0) * map.chans, band.pixels(0), map.chans, copy);
            const Rows grad = {result.at(group.before[0][b], 0), result.row, result.block};
            add_norm_sums(weights.norm, grad, from, band.pixels(0), width, sums.of_rows + width, sums.of_rows + 2 * width);
            store_strip(to.dnormal + band.at(0) * map.chans, band.pixels(0), map.chans, [&](int64_t i, int64_t c) { return load(grad.at(i, c)); });
        }
    }
};

// Called by all threads: (panels, 10, PANEL) as the gradients of the taps (C, 1, 3, 3) and of their bias.
inline void sum_taps(const Partial& part, int64_t chans, float* dw_dw, float* db_dw) {
#pragma omp for schedule(static)
    for (int64_t c = 0; c < chans; c++)
        for (int i = 0; i < 10; i++) {
            float total = 0;
            for (int t = 0; t < omp_get_num_threads(); t++)
                total += part.parts[t][c / PANEL * 10 * PANEL + i * PANEL + c % PANEL];
            (i < 9 ? dw_dw[c * 9 + i] : db_dw[c]) = total;
        }
}

template <class Scheme>
void feed_forward_backward(const FeedForward& map, const Bands& bands, const FeedForwardInput& in, const FeedForwardGradients& to) {
    enum class Own {
        SUM1, SUM2, SUM_TAPS, SUM_BIAS1, SUM_ROWS, T, H, DT, COPY, NORMAL, E, DNORMAL, DH, FACTORS, PRODUCTS, SIDES, RESULT, COUNT
    };
    constexpr int PARTS = Scheme::PARTS;
    enum class Shared { BACK2, BACK1, REVERSED, COUNT };
    static Scratch<Shared> shared;
    static Scratch<PackedSlot> packed;
    const PackedFeedForward<Scheme> weights(map, in, !to.h, packed);
    const int64_t chans = map.chans, width = padded(chans), hidden = padded(map.hidden), most = std::min(CHUNK<Scheme>, hidden);
    float* back2 = shared.get(Shared::BACK2, Scheme::pack_floats(hidden, chans));
    float* back1 = shared.get(Shared::BACK1, Scheme::pack_floats(map.hidden, width));
    float* reversed = shared.get(Shared::REVERSED, 9 * hidden);
    Scheme::pack(in.w_fc2, map.hidden, 1, chans, map.hidden, map.chan_pairs(), {CHUNK<Scheme>}, in.scale, back2);
    Scheme::pack(in.w_fc1, chans, 1, map.hidden, chans, {CHUNK<Scheme>}, map.chan_pairs(), nullptr, back1);
    pack_taps(in.w_dw, map.hidden, true, reversed);
    Partial part1, part2, part_taps, part_bias1, part_rows;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        static thread_local std::vector<int32_t> h_place, dt_place;
        const int64_t floats1 = Scheme::sum_floats(map.hidden, width), floats2 = Scheme::sum_floats(chans, hidden);
        FeedForwardSums sums = {false, own.get(Own::SUM1, floats1), own.get(Own::SUM2, floats2), own.zeros(Own::SUM_TAPS, 10 * hidden),
                                own.zeros(Own::SUM_BIAS1, hidden), own.zeros(Own::SUM_ROWS, 3 * width)};
        part1.is(sums.w1), part2.is(sums.w2), part_taps.is(sums.taps), part_bias1.is(sums.bias1), part_rows.is(sums.of_rows);
        float *t = own.get(Own::T, PARTS * bands.most_pixels(1) * PANEL), *dh = own.get(Own::DH, bands.most_pixels(0) * most);
        float* copy = own.get(Own::COPY, bands.most_pixels(2) * pitch_of(chans));
        float* dnormal = own.get(Own::DNORMAL, Scheme::sum_floats(bands.most_pixels(0), width));
        float* factors = own.get(Own::FACTORS, Scheme::factor_floats(bands.most_pixels(0), most + PARTS * PANEL));
        float* products = own.get(Own::PRODUCTS, Scheme::panel_floats());
#pragma omp for schedule(static)
        for (int64_t g = 0; g < bands.groups; g++) {
            const Group group(bands, g);
            const std::vector<Frames> h = frames_of(own, Own::H, PARTS, bands, group, 2);
            const std::vector<Frames> dt = frames_of(own, Own::DT, PARTS, bands, group, 1);
            const FeedForwardBackward<Scheme> work = {map, in, weights, to, back2, back1, reversed, sums, group, h, dt,
                                                      h[0].places(h_place), dt[0].places(dt_place), factors, products};
            const int64_t halo = work.normal_halo();
            const Rows normal = normal_of(map, in, weights.norm, group, halo, own.get(Own::NORMAL, bands.most_pixels(halo) * width), copy);
            const Rows e = work.read(own.get(Own::E, bands.most_pixels(1) * width), copy);
            const int64_t pixels = group.pixels(0), size = Scheme::factor_floats(pixels, chans);
            float* sides = own.get(Own::SIDES, (to.h ? 2 : 3) * size);
            const typename Scheme::F e_left = Scheme::left(e, pixels, chans, 0, chans / PARTS, sides);
            const typename Scheme::F right = Scheme::right(normal, pixels, chans, sides + size);
            typename Scheme::F left;  // only where h is to be made
            if (!to.h) left = Scheme::left(normal, pixels, chans, 0, chans / PARTS, sides + 2 * size);
            for (int64_t k = 0; k < hidden; k += most)
                work.chunk(k, std::min(most, hidden - k), left, right, e_left, t, dh, dnormal);
            work.write(Scheme::result(dnormal, pixels, width, own.get(Own::RESULT, Scheme::result_floats(pixels, width))), copy);
            sums.begun = true;
        }
        if (!sums.begun) own.zeros(Own::SUM1, floats1), own.zeros(Own::SUM2, floats2);
        Scheme::sum(part1, map.hidden, chans, {CHUNK<Scheme>}, map.chan_pairs(), to.dw_fc1);
        Scheme::sum(part2, chans, map.hidden, map.chan_pairs(), {CHUNK<Scheme>}, to.dw_fc2);
        part_bias1.sum(to.db_fc1, 1, map.hidden, 0);
        part_rows.sum(to.db_fc2, 1, chans, 0);
        part_rows.sum(to.norm_sums, 2, chans, width, width);
        sum_taps(part_taps, map.hidden, to.dw_dw, to.db_dw);
#pragma omp single
        std::fill_n(to.dscale.pointer, chans, 0.0f);
        finish_scaled(chans, map.hidden, in.w_fc2, in.b_fc2, in.scale, to.dw_fc2, to.db_fc2, to.dscale);
    }
}

inline void feed_forward_backward(const FeedForward& map, const FeedForwardInput& in, const FeedForwardGradients& to) {
    const Bands pictures = Bands::pictures(map);
    if (pictures.can_halve()) return feed_forward_backward<Strassen>(map, pictures, in, to);
    feed_forward_backward<Plain>(map, Bands(map), in, to);
}

}  // namespace
}  // namespace jvan

// The gradients of pointwise_feed_forward.h.
#pragma once

# include "pointwise_feed_forward.h"

namespace jvan {
namespace {

struct FeedForwardGradients {
    float *dnormal, *dw1, *db1, *dtaps, *dbias, *dw2, *db2, *ds, *norm_sums;
};

// What a thread sums over its groups.
struct FeedForwardSums {
    float *w1, *w2, *taps, *bias1, *of_rows;  // of_rows: Σ e, then the BatchNorm's two
};

// One group of bands, one thread.
struct FeedForwardBackward {
    const FeedForward& map;
    const FeedForwardInput& in;
    const PackedFeedForward& weights;
    const float* h_kept;                    // null: to be made again
    const float *back2, *back1, *reversed;  // of W₂·s, W₁ and the taps
    const FeedForwardSums& sums;
    const Group& group;
    const Frames &h, &dt;
    const int32_t *h_places, *dt_places;

    int64_t normal_halo() const { return h_kept ? 0 : 2; }

    // keep·dout, a row more around each band.
    Rows read(const float* dout, float* to, float* copy) const {
        const int64_t width = padded(map.chans), block = group.pixels(1) * PANEL;
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Rows top = strip_of(dout + band.at(1) * map.chans, band.pixels(1), map.chans, copy);
            const Rows e = {to + group.before[1][b] * PANEL, PANEL, block};
            const float kept = in.keep[band.picture];
            for_each_vector(band.pixels(1), width, [&](int64_t i, int64_t c) {
                store(const_cast<float*>(e.at(i, c)), kept * load(top.at(i, c)));
            });
            add_columns({e.at(band.above(1), 0), PANEL, block}, band.pixels(0), width, sums.of_rows);
        }
        return {to, PANEL, block};
    }

    // A panel of hidden channels from k on: h, the gradient of t, and gelu(t), which goes to `t`.
    void middle(int64_t k, const Rows& normal, const Rows& e, float* t) const {
        if (!h_kept)
            multiply(normal, group.pixels(2), part(weights.into, map.chans, 0, k, map.chans), PANEL,
                     Result(h.data, PANEL, 0, weights.bias1 + k, false, h_places));
        multiply(e, group.pixels(1), part(back2, map.chans, 0, k, map.chans), PANEL,
                 Result(dt.data, PANEL, 0, nullptr, false, dt_places));
        h.each([&](const Framed& frame, int64_t b) {
            const Band& band = group.bands[b];
            if (h_kept) frame.read(frame.first, frame.first + frame.rows, h_kept + map.kept(k, band.picture, frame.first));
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

    // The panel's part of all gradients but that of x̂; that of h goes to `dh`. All that it needs fits into the second-level
    // cache, which a whole chunk would not. `t` is scratch memory.
    void panel(int64_t k, const Rows& normal, const Rows& e, float* t, float* dh) const {
        middle(k, normal, e, t);
        group.each_run(1, 1, [&](int64_t count, int64_t before, int64_t) {
            multiply_transposed({e.at(before, 0), PANEL, e.block}, map.chans, {t + before * PANEL, PANEL}, PANEL, count,
                                sums_of(sums.w2 + k * map.chans, map.chans));
        });
        std::vector<Framed> tops;
        dt.each([&](const Framed& frame, int64_t) { tops.push_back(frame); });
        h.each([&](const Framed& frame, int64_t b) {
            const Band& band = group.bands[b];
            add_tap_gradients(frame, tops[b], band.top, band.bottom, sums.taps + 10 * k);
            convolve(tops[b], reversed + 9 * k, nullptr, band.top, band.bottom, dh + group.before[0][b] * PANEL);
        });
        add_columns({dh, PANEL}, group.pixels(0), PANEL, sums.bias1 + k);
        group.each_run(0, normal_halo(), [&](int64_t count, int64_t before, int64_t before_normal) {
            multiply_transposed({dh + before * PANEL, PANEL}, std::min<int64_t>(PANEL, map.hidden - k),
                                {normal.at(before_normal, 0), PANEL, normal.block}, padded(map.chans), count,
                                sums_of(sums.w1, map.hidden, k));
        });
    }

    // Hidden channels [k, k + some).
    void chunk(int64_t k, int64_t some, const Rows& normal, const Rows& e, float* t, float* dh, float* dnormal) const {
        const int64_t inner = group.pixels(0), block = inner * PANEL;
        for (int64_t c = 0; c < some; c += PANEL) panel(k + c, normal, e, t, dh + c / PANEL * block);
        multiply({dh, PANEL, block}, inner, part(back1, map.hidden, k, 0, std::min(some, map.hidden - k)), padded(map.chans),
                 Result(dnormal, PANEL, block, nullptr, k > 0));
    }

    void write(const float* result, float* dnormal, float* copy) const {
        const int64_t width = padded(map.chans);
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Rows from = strip_of(in.x + band.at(0) * map.chans, band.pixels(0), map.chans, copy);
            const Rows grad = {result + group.before[0][b] * PANEL, PANEL, group.pixels(0) * PANEL};
            add_norm_sums(weights.norm, grad, from, band.pixels(0), width, sums.of_rows + width, sums.of_rows + 2 * width);
            store_strip(dnormal + band.at(0) * map.chans, band.pixels(0), map.chans, [&](int64_t i, int64_t c) { return load(grad.at(i, c)); });
        }
    }
};

// Called by all threads: (panels, 10, PANEL) as the gradients of the taps (C, 1, 3, 3) and of their bias.
inline void sum_taps(const Partial& part, int64_t chans, float* dtaps, float* dbias) {
#pragma omp for schedule(static)
    for (int64_t c = 0; c < chans; c++)
        for (int i = 0; i < 10; i++) {
            float total = 0;
            for (int t = 0; t < omp_get_num_threads(); t++)
                total += part.parts[t][c / PANEL * 10 * PANEL + i * PANEL + c % PANEL];
            (i < 9 ? dtaps[c * 9 + i] : dbias[c]) = total;
        }
}

// Gradients of x̂, of the weights and of s; sums (2, C) for the BatchNorm's. h_kept: null, or what the forward pass kept.
inline void feed_forward_backward(const FeedForward& map, const FeedForwardInput& in, const float* dout, const float* h_kept,
                                  const FeedForwardGradients& to) {
    static Scratch shared;
    const PackedFeedForward weights(map, in, !h_kept, shared);
    const int64_t chans = map.chans, width = padded(chans), hidden = padded(map.hidden), most = map.chunk();
    float *back2 = shared.get(8, hidden * chans), *back1 = shared.get(9, map.hidden * width), *reversed = shared.get(10, 9 * hidden);
    pack_panels(in.w2, map.hidden, 1, chans, map.hidden, in.s, back2);
    pack_panels(in.w1, chans, 1, map.hidden, chans, nullptr, back1);
    pack_taps(in.taps, map.hidden, true, reversed);
    const Bands bands(map);
    Partial part1, part2, part_taps, part_bias1, part_rows;
#pragma omp parallel
    {
        static thread_local Scratch own;
        static thread_local std::vector<int32_t> h_place, dt_place;
        const FeedForwardSums sums = {own.zeros(0, map.hidden * width), own.zeros(1, chans * hidden), own.zeros(2, 10 * hidden),
                                      own.zeros(3, hidden), own.zeros(4, 3 * width)};
        part1.is(sums.w1), part2.is(sums.w2), part_taps.is(sums.taps), part_bias1.is(sums.bias1), part_rows.is(sums.of_rows);
        float *t = own.get(5, bands.most_pixels(1) * PANEL), *dh = own.get(12, bands.most_pixels(0) * most);
        float* copy = own.get(8, bands.most_pixels(2) * pitch_of(chans));
        float* dnormal = own.get(11, bands.most_pixels(0) * width);
#pragma omp for schedule(static)
        for (int64_t g = 0; g < bands.groups; g++) {
            const Group group(bands, g);
            const Frames h(own.get(6, Frames::most(bands, 2)), group, 2);
            const Frames dt(own.get(7, Frames::most(bands, 1)), group, 1);
            const FeedForwardBackward work = {map, in, weights, h_kept, back2, back1, reversed, sums, group, h, dt,
                                              h.places(h_place), dt.places(dt_place)};
            const int64_t halo = work.normal_halo();
            const Rows normal = normal_of(map, in, weights.norm, group, halo, own.get(9, bands.most_pixels(halo) * width), copy);
            const Rows e = work.read(dout, own.get(10, bands.most_pixels(1) * width), copy);
            for (int64_t k = 0; k < hidden; k += most) work.chunk(k, std::min(most, hidden - k), normal, e, t, dh, dnormal);
            work.write(dnormal, to.dnormal, copy);
        }
        part1.sum_panels(to.dw1, map.hidden, chans);
        part2.sum_panels(to.dw2, chans, map.hidden);
        part_bias1.sum(to.db1, 1, map.hidden, 0);
        part_rows.sum(to.db2, 1, chans, 0);
        part_rows.sum(to.norm_sums, 2, chans, width, width);
        sum_taps(part_taps, map.hidden, to.dtaps, to.dbias);
#pragma omp single
        std::fill(to.ds, to.ds + chans, 0.0f);
        finish_scaled(chans, map.hidden, in.w2, in.b2, in.s, to.dw2, to.db2, to.ds);
    }
}

}  // namespace
}  // namespace jvan

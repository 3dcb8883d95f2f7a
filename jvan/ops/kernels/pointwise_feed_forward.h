// A block's convolutional feed-forward in training, while a band of its wide map is in cache:
//
//   x̂ = BatchNorm(x);  h = fc1(x̂);  t = dw(h), 3×3;  y = x + keep·scale·fc2(gelu(t))
//
// t is never whole: some hidden channels at a time, some rows at a time, in the backward pass again. h is written out for
// that one, or made again there: a fifth more products for maps that are four or eight times as wide as x.
#pragma once

# include "arguments.h"
# include "feed_forward_frames.h"
# include "norm.h"

#include <atomic>

namespace jvan {
namespace {

// x, and what of the weights both passes need.
struct FeedForwardInput {
    Input x, mean, rstd, gamma, beta, w_fc1, b_fc1, w_dw, b_dw, w_fc2, b_fc2, scale, keep;
};

struct FeedForwardOutput {
    Output y;
    float* h = nullptr;  // null: not kept
};

enum class PackedSlot { NORM, INTO, TAPS, BIAS1, BIAS, COUNT };

template <class Scheme>
struct PackedFeedForward {
    Affine norm;
    const float *into, *bias1, *taps, *bias;

    // fc1's weight only where h is to be made.
    PackedFeedForward(const FeedForward& map, const FeedForwardInput& in, bool makes_h, Scratch<PackedSlot>& scratch) {
        const int64_t hidden = padded(map.hidden);
        norm = affine(in.mean, in.rstd, in.gamma, in.beta, map.chans, scratch, PackedSlot::NORM);
        float* panels = scratch.get(PackedSlot::INTO, makes_h ? Scheme::pack_floats(map.chans, hidden) : 0);
        float* packed = scratch.get(PackedSlot::TAPS, 9 * hidden);
        if (makes_h) Scheme::pack(in.w_fc1, 1, map.chans, map.chans, map.hidden, map.chan_pairs(), {CHUNK<Scheme>}, nullptr, panels);
        pack_taps(in.w_dw, map.hidden, false, packed);
        bias1 = padded_copy(in.b_fc1, map.hidden, scratch.get(PackedSlot::BIAS1, hidden));
        bias = padded_copy(in.b_dw, map.hidden, scratch.get(PackedSlot::BIAS, hidden));
        into = panels, taps = packed;
    }
};

// x̂ of a group's bands, `halo` more rows with each, in panels.
inline Rows normal_of(const FeedForward& map, const FeedForwardInput& in, const Affine& norm, const Group& group,
                      int64_t halo, float* to, float* copy) {
    const int64_t block = group.pixels(halo) * PANEL;
    for (int64_t b = 0; b < group.count(); b++) {
        const int64_t count = group.bands[b].pixels(halo);
        const Rows from = strip_of(in.x + group.bands[b].at(halo) * map.chans, count, map.chans, copy);
        normalise(norm, from, count, padded(map.chans), to + group.before[halo][b] * PANEL, PANEL, block);
    }
    return {to, PANEL, block};
}

// One group of bands, one thread.
template <class Scheme>
struct FeedForwardOut {
    static constexpr int PARTS = Scheme::PARTS;
    typedef typename Scheme::F F;
    const FeedForward& map;
    const FeedForwardInput& in;
    const PackedFeedForward<Scheme>& weights;
    const float *outof, *bias2, *scale;
    const FeedForwardOutput& to;
    const Group& group;
    const std::vector<Frames>& h;
    const int32_t* h_places;

    // A panel of hidden channels from k on: from h to gelu(t).
    void middle(int64_t k, const Frames& h, float* t) const {
        h.each([&](const Framed& frame, int64_t b) {
            const Band& band = group.bands[b];
            float* own = t + group.before[0][b] * PANEL;
            if (to.h) frame.write(band.top, band.bottom, to.h + map.kept(k, band.picture, band.top));
            convolve(frame, weights.taps + 9 * k, weights.bias + k, band.top, band.bottom, own);
            for (int64_t i = 0; i < band.pixels(0) * PANEL; i += LANES) store(own + i, gelu(load(own + i)));
        });
    }

    // Hidden channels [k, k + some): from x̂ to their part of the second product, in `sums`.
    void chunk(int64_t k, int64_t some, const F& normal, float* t, float* factors, float* products, float* sums) const {
        const int64_t inner = group.pixels(0), block = inner * PANEL, step = some / PARTS;
        float* const frames[] = {h.front().data, h.back().data};
        F left;
        for (int64_t c = 0; c < step; c += PANEL) {
            const float* bias[] = {weights.bias1 + k + c, weights.bias1 + k + c + (PARTS - 1) * step};
            Scheme::panels(normal, group.pixels(1), weights.into, map.chans, padded(map.hidden), k / PARTS + c, frames, bias,
                           h_places, products);
            for (int j = 0; j < PARTS; j++) middle(k + c + j * step, h[j], t + (c + j * step) / PANEL * block);
            left = Scheme::left({t, PANEL, block}, inner, some, c, c + PANEL, factors);
        }
        add_products<Scheme>(left, inner, outof, map.hidden, padded(map.chans), k, std::min(some, map.hidden - k), sums, k > 0);
    }

    void write(const Rows& sums, float* copy) const {
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Rows from = strip_of(in.x + band.at(0) * map.chans, band.pixels(0), map.chans, copy);
            const Rows result = {sums.at(group.before[0][b], 0), sums.row, sums.block};
            const float kept = in.keep[band.picture];
            store_strip(to.y + band.at(0) * map.chans, band.pixels(0), map.chans, [&](int64_t i, int64_t c) {
                return load(from.at(i, c)) + kept * load(scale + c) * (load(result.at(i, c)) + load(bias2 + c));
            });
        }
    }
};

template <class Scheme>
void feed_forward(const FeedForward& map, const Bands& bands, const FeedForwardInput& in, const FeedForwardOutput& to) {
    enum class Own { NORMAL, SUMS, H, T, COPY, SIDES, FACTORS, PRODUCTS, RESULT, COUNT };
    enum class Shared { OUTOF, BIAS2, SCALE, COUNT };
    static Scratch<Shared> shared;
    static Scratch<PackedSlot> packed;
    const PackedFeedForward<Scheme> weights(map, in, true, packed);
    const int64_t chans = map.chans, width = padded(chans), most = std::min(CHUNK<Scheme>, padded(map.hidden));
    float* outof = shared.get(Shared::OUTOF, Scheme::pack_floats(map.hidden, width));
    Scheme::pack(in.w_fc2, 1, map.hidden, map.hidden, chans, {CHUNK<Scheme>}, map.chan_pairs(), nullptr, outof);
    const float* bias2 = padded_copy(in.b_fc2, chans, shared.get(Shared::BIAS2, width));
    const float* scale = padded_copy(in.scale, chans, shared.get(Shared::SCALE, width));
#pragma omp parallel for schedule(static)
    for (int64_t g = 0; g < bands.groups; g++) {
        static thread_local Scratch<Own> own;
        static thread_local std::vector<int32_t> place;
        const Group group(bands, g);
        const int64_t pixels = group.pixels(0);
        float* sums = own.get(Own::SUMS, Scheme::sum_floats(pixels, width));
        float* copy = own.get(Own::COPY, bands.most_pixels(1) * pitch_of(chans));
        const Rows normal = normal_of(map, in, weights.norm, group, 1, own.get(Own::NORMAL, bands.most_pixels(1) * width), copy);
        float* sides = own.get(Own::SIDES, Scheme::factor_floats(pixels, chans));
        float* products = own.get(Own::PRODUCTS, Scheme::panel_floats());
        const typename Scheme::F left = Scheme::left(normal, pixels, chans, 0, chans / Scheme::PARTS, sides);
        const std::vector<Frames> h = frames_of(own, Own::H, Scheme::PARTS, bands, group, 1);
        const FeedForwardOut<Scheme> work = {map, in, weights, outof, bias2, scale, to, group, h, h[0].places(place)};
        float *t = own.get(Own::T, bands.most_pixels(0) * most), *factors = own.get(Own::FACTORS, Scheme::factor_floats(pixels, most));
        for (int64_t k = 0; k < padded(map.hidden); k += most)
            work.chunk(k, std::min(most, padded(map.hidden) - k), left, t, factors, products, sums);
        work.write(Scheme::result(sums, pixels, width, own.get(Own::RESULT, Scheme::result_floats(pixels, width))), copy);
        std::atomic_thread_fence(std::memory_order_seq_cst);  // after store_past_caches
    }
}

inline void feed_forward(const FeedForward& map, const FeedForwardInput& in, const FeedForwardOutput& to) {
    const Bands pictures = Bands::pictures(map);
    if (pictures.can_halve()) return feed_forward<Strassen>(map, pictures, in, to);
    feed_forward<Plain>(map, Bands(map), in, to);
}

}  // namespace
}  // namespace jvan

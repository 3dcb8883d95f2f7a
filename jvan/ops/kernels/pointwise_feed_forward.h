// A block's convolutional feed-forward in training, forward and backward, while a band of its wide map is in cache:
//
//   x̂ = BatchNorm(x);  h = x̂·W₁ᵀ + b₁;  t = depthwise₃ₓ₃(h);  out = x + keep·s·(gelu(t)·W₂ᵀ + b₂)
//
// t is never whole: some hidden channels at a time, some rows at a time, in the backward pass again. h is written out for
// that one, or made again there: a fifth more products for maps that are four or eight times as wide as x.
#pragma once

# include "norm.h"

namespace jvan {
namespace {

constexpr int64_t CHUNK = 64;  // hidden channels at a time; _CHUNK in ops/feed_forward.py
static_assert(CHUNK % PANEL == 0, "a chunk is whole panels");
// Of a map at a time: a band's hidden chunks (three of them, 200 KB each) and strips of x share the second-level cache.
constexpr int64_t BAND_PIXELS = 784;
constexpr int64_t GROUP_FLOATS = 65536;  // of a strip of x, which may span several bands
constexpr int ADJACENT = 7;                         // output pixels of the depthwise convolution in registers

struct FeedForward {
    int64_t batch, height, width, chans, hidden;

    int64_t pixels() const { return height * width; }
    // In all of h as it is kept, (chunks, N, H, W, CHUNK): where a row of chunk k begins.
    int64_t kept(int64_t k, int64_t picture, int64_t row) const {
        return ((k / CHUNK * batch + picture) * pixels() + row * width) * CHUNK;
    }
};

// Rows [top, bottom) of a picture, with `halo` more where the picture has them.
struct Band {
    int64_t picture, top, bottom, height;

    int64_t first(int64_t halo) const { return std::max<int64_t>(top - halo, 0); }
    int64_t last(int64_t halo) const { return std::min(bottom + halo, height); }
    int64_t rows(int64_t halo) const { return last(halo) - first(halo); }
};

// How a batch is cut into bands, and these into groups that share what is read of the weights.
struct Bands {
    const FeedForward& map;
    int64_t per_picture, groups;

    explicit Bands(const FeedForward& map) : map(map) {
        const int64_t threads = omp_get_max_threads();
        const int64_t most = std::max<int64_t>(BAND_PIXELS / map.width, 1);
        per_picture = std::max((map.height + most - 1) / most, (threads + map.batch - 1) / map.batch);
        per_picture = std::min(per_picture, map.height);
        const int64_t floats = map.pixels() / per_picture * padded(map.chans);
        const int64_t together = std::max<int64_t>(GROUP_FLOATS / std::max<int64_t>(floats, 1), 1);
        groups = (count() + together - 1) / together;
        groups = std::min((groups + threads - 1) / threads * threads, count());
    }
    int64_t count() const { return map.batch * per_picture; }
    int64_t begin(int64_t group) const { return count() * group / groups; }
    Band at(int64_t i) const {
        const int64_t part = i % per_picture;
        return {i / per_picture, map.height * part / per_picture, map.height * (part + 1) / per_picture, map.height};
    }
    int64_t most_rows() const { return (map.height + per_picture - 1) / per_picture; }
    int64_t most_bands() const { return (count() + groups - 1) / groups; }
};

// A band of a chunk of hidden channels with a pixel of zeros around: pixel (y, x) at (y - first + 1, x + 1).
struct Framed {
    float* data;
    int64_t width, first, rows;  // `rows` within the picture; data has two more, and two more columns

    int64_t line() const { return (width + 2) * CHUNK; }
    float* at(int64_t y, int64_t x) const { return data + (y - first + 1) * line() + (x + 1) * CHUNK; }
    void clear_frame() const {
        std::fill(data, data + line(), 0.0f);
        std::fill(data + (rows + 1) * line(), data + (rows + 2) * line(), 0.0f);
        for (int64_t y = 1; y <= rows; y++) {
            std::fill(data + y * line(), data + y * line() + CHUNK, 0.0f);
            std::fill(data + (y + 1) * line() - CHUNK, data + (y + 1) * line(), 0.0f);
        }
    }
    // Rows [begin, end) to or from an array without a frame.
    void write(int64_t begin, int64_t end, float* to) const {
        for (int64_t y = begin; y < end; y++, to += width * CHUNK) std::copy(at(y, 0), at(y, width), to);
    }
    void read(int64_t begin, int64_t end, const float* from) const {
        for (int64_t y = begin; y < end; y++, from += width * CHUNK) std::copy(from, from + width * CHUNK, at(y, 0));
    }
};

template <int COUNT>
JVAN_INLINE void convolve_adjacent(const float* from, int64_t line, const vec (&taps)[9], vec start, float* to) {
    vec sums[COUNT];
#pragma GCC unroll 8
    for (int t = 0; t < COUNT; t++) sums[t] = start;
#pragma GCC unroll 4
    for (int ky = 0; ky < 3; ky++)
#pragma GCC unroll 16
        for (int p = 0; p < COUNT + 2; p++) {
            const vec value = load(from + ky * line + p * CHUNK);
#pragma GCC unroll 4
            for (int kx = 0; kx < 3; kx++)
                if (p - kx >= 0 && p - kx < COUNT) sums[p - kx] += taps[ky * 3 + kx] * value;
        }
#pragma GCC unroll 8
    for (int t = 0; t < COUNT; t++) store(to + t * CHUNK, sums[t]);
}

// Rows [begin, end) of the 3×3 convolution with taps (9, CHUNK); `to` has no frame. bias may be null.
inline void convolve(const Framed& from, const float* taps, const float* bias, int64_t begin, int64_t end,
                     int64_t chans, float* to) {
    for (int64_t c = 0; c < chans; c += LANES) {
        vec k[9];
        for (int i = 0; i < 9; i++) k[i] = load(taps + i * CHUNK + c);
        const vec start = bias ? load(bias + c) : vec{};
        for (int64_t y = begin; y < end; y++) {
            const float* row = from.at(y - 1, -1) + c;
            float* out = to + (y - begin) * from.width * CHUNK + c;
            int64_t x = 0;
            for (; x + ADJACENT <= from.width; x += ADJACENT)
                convolve_adjacent<ADJACENT>(row + x * CHUNK, from.line(), k, start, out + x * CHUNK);
            for (; x < from.width; x++) convolve_adjacent<1>(row + x * CHUNK, from.line(), k, start, out + x * CHUNK);
        }
    }
}

// The gradients of the taps (9, CHUNK) and of the bias (CHUNK), which follow one another in `sums`, over rows [begin, end).
inline void add_tap_gradients(const Framed& from, const Framed& top, int64_t begin, int64_t end, int64_t chans, float* sums) {
    for (int64_t c = 0; c < chans; c += LANES) {
        vec k[10];
        for (int i = 0; i < 10; i++) k[i] = load(sums + i * CHUNK + c);
        for (int64_t y = begin; y < end; y++) {
            const float *row = from.at(y - 1, -1) + c, *grad = top.at(y, 0) + c;
            for (int64_t x = 0; x < from.width; x++, row += CHUNK, grad += CHUNK) {
                const vec g = load(grad);
#pragma GCC unroll 16
                for (int i = 0; i < 9; i++) k[i] += g * load(row + i / 3 * from.line() + i % 3 * CHUNK);
                k[9] += g;
            }
        }
        for (int i = 0; i < 10; i++) store(sums + i * CHUNK + c, k[i]);
    }
}

// Taps (C, 1, 3, 3) as (chunks, 9, CHUNK), reversed or not, zeros past the last channel.
inline void pack_taps(const float* weight, int64_t chans, bool reversed, float* to) {
    for (int64_t first = 0; first < chans; first += CHUNK)
        for (int i = 0; i < 9; i++)
            for (int64_t c = 0; c < CHUNK; c++)
                *to++ = first + c < chans ? weight[(first + c) * 9 + (reversed ? 8 - i : i)] : 0.0f;
}

// Where the rows of a product with the band's pixels go in a framed band.
inline void places(const Framed& to, int64_t first, int64_t rows, int32_t* place) {
    for (int64_t y = first; y < first + rows; y++)
        for (int64_t x = 0; x < to.width; x++) *place++ = (y - to.first + 1) * (to.width + 2) + x + 1;
}

inline int64_t rounded_chunks(int64_t hidden) { return (hidden + CHUNK - 1) / CHUNK * CHUNK; }

// x, and what of the weights both passes need.
struct FeedForwardInput {
    const float *x, *mean, *rstd, *gamma, *beta, *w1, *b1, *taps, *bias, *w2, *b2, *s, *keep;
};

struct PackedFeedForward {
    Affine norm;
    const float *into, *bias1, *taps, *bias;

    PackedFeedForward(const FeedForward& map, const FeedForwardInput& in, Scratch& scratch) {
        const int64_t hidden = rounded_chunks(map.hidden);
        norm = affine(in.mean, in.rstd, in.gamma, in.beta, map.chans, scratch, 0);
        float* panels = scratch.zeros(4, hidden * map.chans);
        pack_panels(in.w1, 1, map.chans, map.chans, map.hidden, nullptr, panels);
        float* packed = scratch.get(5, 9 * hidden);
        pack_taps(in.taps, map.hidden, false, packed);
        float *b1 = scratch.zeros(6, hidden), *b = scratch.zeros(7, hidden);
        std::copy(in.b1, in.b1 + map.hidden, b1);
        std::copy(in.bias, in.bias + map.hidden, b);
        into = panels, taps = packed, bias1 = b1, bias = b;
    }
};

// h: null, or where it is kept.
inline void feed_forward(const FeedForward& map, const FeedForwardInput& in, float* out, float* h_kept) {
    static Scratch shared;
    const PackedFeedForward weights(map, in, shared);
    const int64_t chans = map.chans, width = padded(chans), pitch = pitch_of(chans), hidden = rounded_chunks(map.hidden);
    float* outof = shared.get(8, hidden * width);
    pack_panels(in.w2, 1, map.hidden, map.hidden, chans, nullptr, outof);
    const float* bias2 = padded_copy(in.b2, chans, shared.get(9, width));
    const float* scale = padded_copy(in.s, chans, shared.get(10, width));
    const Bands bands(map);
    const int64_t wide = (bands.most_rows() + 2) * map.width, framed = (bands.most_rows() + 4) * (map.width + 2);
#pragma omp parallel for schedule(static)
    for (int64_t group = 0; group < bands.groups; group++) {
        static thread_local Scratch own;
        static thread_local std::vector<int32_t> place;
        place.resize(wide);
        const int64_t first = bands.begin(group), last = bands.begin(group + 1);
        float *normal = own.get(0, bands.most_bands() * wide * pitch), *sums = own.get(1, bands.most_bands() * wide * pitch);
        float *h = own.get(2, framed * CHUNK), *t = own.get(3, wide * CHUNK), *copy = own.get(4, wide * pitch);
        for (int64_t b = first; b < last; b++) {
            const Band band = bands.at(b);
            const float* from = in.x + (band.picture * map.pixels() + band.first(1) * map.width) * chans;
            const int64_t count = band.rows(1) * map.width;
            normalise(weights.norm, strip_of(from, count, chans, copy), count, width, normal + (b - first) * wide * pitch, pitch);
        }
        for (int64_t k = 0; k < map.hidden; k += CHUNK) {
            const int64_t some = std::min(CHUNK, padded(map.hidden - k)), depth = std::min(CHUNK, map.hidden - k);
            for (int64_t b = first; b < last; b++) {
                const Band band = bands.at(b);
                const Framed frame = {h, map.width, band.first(1), band.rows(1)};
                const int64_t inner = (band.bottom - band.top) * map.width;
                frame.clear_frame();
                places(frame, frame.first, frame.rows, place.data());
                multiply({normal + (b - first) * wide * pitch, pitch}, frame.rows * map.width,
                         part(weights.into, chans, 0, k, chans), some,
                         Result(h, CHUNK, weights.bias1 + k, false, place.data()));
                if (h_kept) frame.write(band.top, band.bottom, h_kept + map.kept(k, band.picture, band.top));
                convolve(frame, weights.taps + 9 * k, weights.bias + k, band.top, band.bottom, some, t);
                for_each_vector(inner, some, [&](int64_t i, int64_t c) { store(t + i * CHUNK + c, gelu(load(t + i * CHUNK + c))); });
                multiply({t, CHUNK}, inner, part(outof, map.hidden, k, 0, depth), width,
                         Result(sums + (b - first) * wide * pitch, pitch, k ? nullptr : bias2, k > 0));
            }
        }
        for (int64_t b = first; b < last; b++) {
            const Band band = bands.at(b);
            const int64_t inner = (band.bottom - band.top) * map.width;
            const int64_t at = (band.picture * map.pixels() + band.top * map.width) * chans;
            const float *result = sums + (b - first) * wide * pitch, kept = in.keep[band.picture];
            const Rows from = strip_of(in.x + at, inner, chans, copy);
            store_strip(out + at, inner, chans, [&](int64_t i, int64_t c) {
                return load(from.a + i * from.row + c) + kept * load(scale + c) * load(result + i * pitch + c);
            });
        }
    }
}

struct FeedForwardGradients {
    float *dnormal, *dw1, *db1, *dtaps, *dbias, *dw2, *db2, *ds, *norm_sums;
};

// One group of bands, one thread.
struct FeedForwardBackward {
    const FeedForward& map;
    const FeedForwardInput& in;
    const PackedFeedForward& weights;
    const Bands& bands;
    const float* h_kept;                    // null: to be made again
    const float *back2, *back1, *reversed;  // of W₂·s, W₁ and the taps
    float *sum1, *sum2, *tap_sums, *bias1_sums, *sums;  // this thread's
    Scratch& own;
    std::vector<int32_t>& place;

    int64_t chans() const { return map.chans; }
    int64_t pitch() const { return pitch_of(map.chans); }
    int64_t wide() const { return (bands.most_rows() + 4) * map.width; }
    int64_t framed() const { return (bands.most_rows() + 6) * (map.width + 2); }

    void read(int64_t first, int64_t last, const float* dout, float* normal, float* e) const {
        float* copy = own.get(8, wide() * pitch());
        for (int64_t b = first; b < last; b++, normal += wide() * pitch(), e += wide() * pitch()) {
            const Band band = bands.at(b);
            const int64_t origin = band.picture * map.pixels(), count = band.rows(2) * map.width;
            const Rows from = strip_of(in.x + (origin + band.first(2) * map.width) * chans(), count, chans(), copy);
            normalise(weights.norm, from, count, padded(chans()), normal, pitch());
            const int64_t fewer = band.rows(1) * map.width;
            const Rows top = strip_of(dout + (origin + band.first(1) * map.width) * chans(), fewer, chans(), copy);
            const float kept = in.keep[band.picture];
            for_each_vector(fewer, padded(chans()), [&](int64_t i, int64_t c) { store(e + i * pitch() + c, kept * load(top.a + i * top.row + c)); });
            add_columns({e + (band.top - band.first(1)) * map.width * pitch(), pitch()},
                        (band.bottom - band.top) * map.width, padded(chans()), sums);
        }
    }

    // Hidden channels [k, k + some) of one band.
    void chunk(const Band& band, int64_t k, const float* normal, const float* e, float* dnormal) const {
        const int64_t some = std::min(CHUNK, padded(map.hidden - k)), depth = std::min(CHUNK, map.hidden - k);
        const int64_t width = padded(chans()), inner = (band.bottom - band.top) * map.width;
        const int64_t above = (band.top - band.first(1)) * map.width;  // pixels of the halo before the band's own
        const float* own_normal = normal + (band.top - band.first(2)) * map.width * pitch();
        float *t = own.get(5, wide() * CHUNK);
        const Framed h = {own.get(6, framed() * CHUNK), map.width, band.first(2), band.rows(2)};
        const Framed dt = {own.get(7, framed() * CHUNK), map.width, band.first(1), band.rows(1)};
        h.clear_frame(), dt.clear_frame();
        if (h_kept) {
            h.read(h.first, h.first + h.rows, h_kept + map.kept(k, band.picture, h.first));
        } else {
            places(h, h.first, h.rows, place.data());
            multiply({normal, pitch()}, h.rows * map.width, part(weights.into, chans(), 0, k, chans()), some,
                     Result(h.data, CHUNK, weights.bias1 + k, false, place.data()));
        }
        convolve(h, weights.taps + 9 * k, weights.bias + k, dt.first, dt.first + dt.rows, some, t);
        places(dt, dt.first, dt.rows, place.data());
        multiply({e, pitch()}, dt.rows * map.width, part(back2, chans(), 0, k, chans()), some,
                 Result(dt.data, CHUNK, nullptr, false, place.data()));
        for (int64_t y = dt.first; y < dt.first + dt.rows; y++) {
            float *grad = dt.at(y, 0), *value = t + (y - dt.first) * map.width * CHUNK;
            for_each_vector(map.width, some, [&](int64_t x, int64_t c) {
                const vec v = load(value + x * CHUNK + c);
                store(value + x * CHUNK + c, gelu(v));
                store(grad + x * CHUNK + c, load(grad + x * CHUNK + c) * gelu_derivative(v));
            });
        }
        multiply_transposed({e + above * pitch(), pitch()}, chans(), {t + above * CHUNK, CHUNK}, some, inner, sum2 + k,
                            rounded_chunks(map.hidden));
        add_tap_gradients(h, dt, band.top, band.bottom, some, tap_sums + 10 * k);
        convolve(dt, reversed + 9 * k, nullptr, band.top, band.bottom, some, t);
        add_columns({t, CHUNK}, inner, some, bias1_sums + k);
        multiply_transposed({t, CHUNK}, depth, {own_normal, pitch()}, width, inner, sum1 + k * width, width);
        multiply({t, CHUNK}, inner, part(back1, map.hidden, k, 0, depth), width, Result(dnormal, pitch(), nullptr, k > 0));
    }

    void write(const Band& band, const float* result, float* dnormal) const {
        const int64_t inner = (band.bottom - band.top) * map.width, width = padded(chans());
        const int64_t at = (band.picture * map.pixels() + band.top * map.width) * chans();
        const Rows from = strip_of(in.x + at, inner, chans(), own.get(8, wide() * pitch()));
        add_norm_sums(weights.norm, {result, pitch()}, from, inner, width, sums + width, sums + 2 * width);
        store_strip(dnormal + at, inner, chans(), [&](int64_t i, int64_t c) { return load(result + i * pitch() + c); });
    }
};

// Gradients of x̂, of the weights and of s; sums (2, C) for the BatchNorm's. h_kept: null, or what the forward pass kept.
inline void feed_forward_backward(const FeedForward& map, const FeedForwardInput& in, const float* dout, const float* h_kept,
                                  const FeedForwardGradients& to) {
    static Scratch shared;
    const PackedFeedForward weights(map, in, shared);
    const int64_t chans = map.chans, width = padded(chans), hidden = rounded_chunks(map.hidden);
    float *back2 = shared.zeros(8, hidden * chans), *back1 = shared.get(9, hidden * width), *reversed = shared.get(10, 9 * hidden);
    pack_panels(in.w2, map.hidden, 1, chans, map.hidden, in.s, back2);
    pack_panels(in.w1, chans, 1, map.hidden, chans, nullptr, back1);
    pack_taps(in.taps, map.hidden, true, reversed);
    const Bands bands(map);
    Partial part1, part2, part_taps, part_bias1, part_sums;
#pragma omp parallel
    {
        static thread_local Scratch own;
        static thread_local std::vector<int32_t> place;
        float *sum1 = own.zeros(0, hidden * width), *sum2 = own.zeros(1, chans * hidden);
        float *tap_sums = own.zeros(2, 10 * hidden), *bias1_sums = own.zeros(3, hidden), *sums = own.zeros(4, 3 * width);
        part1.is(sum1), part2.is(sum2), part_taps.is(tap_sums), part_bias1.is(bias1_sums), part_sums.is(sums);
        const FeedForwardBackward work = {map, in, weights, bands, h_kept, back2, back1, reversed, sum1, sum2, tap_sums, bias1_sums, sums, own, place};
        const int64_t each = work.wide() * work.pitch(), size = bands.most_bands() * each;
        place.resize(work.wide());
        float *normal = own.get(9, size), *e = own.get(10, size), *dnormal = own.get(11, size);
#pragma omp for schedule(static)
        for (int64_t group = 0; group < bands.groups; group++) {
            const int64_t first = bands.begin(group), last = bands.begin(group + 1);
            work.read(first, last, dout, normal, e);
            for (int64_t k = 0; k < map.hidden; k += CHUNK)
                for (int64_t b = first; b < last; b++) {
                    const int64_t at = (b - first) * each;
                    work.chunk(bands.at(b), k, normal + at, e + at, dnormal + at);
                }
            for (int64_t b = first; b < last; b++) work.write(bands.at(b), dnormal + (b - first) * each, to.dnormal);
        }
        part1.sum(to.dw1, map.hidden, chans, width);
        part2.sum(to.dw2, chans, map.hidden, hidden);
        part_bias1.sum(to.db1, 1, map.hidden, 0);
        part_sums.sum(to.db2, 1, chans, 0);
        part_sums.sum(to.norm_sums, 2, chans, width, width);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < map.hidden; c++)
            for (int i = 0; i < 10; i++) {
                float total = 0;
                for (int t = 0; t < omp_get_num_threads(); t++)
                    total += part_taps.parts[t][c / CHUNK * 10 * CHUNK + i * CHUNK + c % CHUNK];
                (i < 9 ? to.dtaps[c * 9 + i] : to.dbias[c]) = total;
            }
#pragma omp single
        std::fill(to.ds, to.ds + chans, 0.0f);
        finish_scaled(chans, map.hidden, in.w2, in.b2, in.s, to.dw2, to.db2, to.ds);
    }
}

}  // namespace
}  // namespace jvan

// Hidden channels of a group's bands with zeros around them, and the depthwise 3×3 convolution of these.
#pragma once

# include "feed_forward_bands.h"

namespace jvan {
namespace {

constexpr int ADJACENT = 7;  // output pixels of the convolution in registers

// A panel of hidden channels of a band with a pixel of zeros around: pixel (y, x) at (y - first + 1, x + 1).
struct Framed {
    float* data;
    int64_t width, first, rows;  // `rows` within the picture; data has two more, and two more columns

    int64_t line() const { return (width + 2) * PANEL; }
    int64_t floats() const { return (rows + 2) * line(); }
    float* at(int64_t y, int64_t x) const { return data + (y - first + 1) * line() + (x + 1) * PANEL; }
    void clear_frame() const {
        std::fill(data, data + line() + PANEL, 0.0f);
        for (int64_t y = first; y < first + rows - 1; y++) std::fill(at(y, width), at(y + 1, 0), 0.0f);
        std::fill(at(first + rows - 1, width), data + floats(), 0.0f);
    }
    // Rows [begin, end) to an array without a frame, past the caches; or from it.
    void write(int64_t begin, int64_t end, float* to) const {
        const bool aligned = reinterpret_cast<uintptr_t>(to) % sizeof(vec) == 0;
        for (int64_t y = begin; y < end; y++, to += width * PANEL) {
            const float* from = at(y, 0);
            for (int64_t i = 0; i < width * PANEL; i += LANES)
                aligned ? store_past_caches(to + i, load(from + i)) : store(to + i, load(from + i));
        }
    }
    void read(int64_t begin, int64_t end, const float* from) const {
        for (int64_t y = begin; y < end; y++, from += width * PANEL) std::copy(from, from + width * PANEL, at(y, 0));
    }
};

// One panel of hidden channels of a group's bands, each band in a frame of its own. What is around the pictures stays zero
// from panel to panel.
struct Frames {
    float* data;
    const Group& group;
    int64_t halo;

    Frames(float* data, const Group& group, int64_t halo) : data(data), group(group), halo(halo) {
        each([](const Framed& frame, int64_t) { frame.clear_frame(); });
    }
    // Floats of one panel of any group.
    static int64_t most(const Bands& bands, int64_t halo) {
        return (bands.most_pixels(halo + 1) / bands.map.width) * (bands.map.width + 2) * PANEL;
    }
    // Calls f(frame, band's number).
    template <class F>
    void each(F f) const {
        float* at = data;
        for (int64_t b = 0; b < group.count(); b++) {
            const Band& band = group.bands[b];
            const Framed frame = {at, band.width, band.first(halo), band.rows(halo)};
            f(frame, b);
            at += frame.floats();
        }
    }
    // Where the rows of a product with the group's pixels go.
    const int32_t* places(std::vector<int32_t>& place) const {
        place.resize(group.pixels(halo));
        int32_t* to = place.data();
        each([&](const Framed& frame, int64_t) {
            for (int64_t y = frame.first; y < frame.first + frame.rows; y++)
                for (int64_t x = 0; x < frame.width; x++) *to++ = int32_t((frame.at(y, x) - data) / PANEL);
        });
        return place.data();
    }
};

// Frames for as many panels as are made together.
template <class Slot>
inline std::vector<Frames> frames_of(Scratch<Slot>& scratch, Slot slot, int count, const Bands& bands, const Group& group, int64_t halo) {
    const int64_t most = Frames::most(bands, halo);
    float* data = scratch.get(slot, count * most);
    std::vector<Frames> frames;
    for (int i = 0; i < count; i++) frames.emplace_back(data + i * most, group, halo);
    return frames;
}

template <int COUNT>
JVAN_INLINE void convolve_adjacent(const float* from, int64_t line, const vec (&taps)[9], vec start, float* to) {
    vec sums[COUNT];
#pragma GCC unroll 8
    for (int t = 0; t < COUNT; t++) sums[t] = start;
#pragma GCC unroll 4
    for (int ky = 0; ky < 3; ky++)
#pragma GCC unroll 16
        for (int p = 0; p < COUNT + 2; p++) {
            const vec value = load(from + ky * line + p * PANEL);
#pragma GCC unroll 4
            for (int kx = 0; kx < 3; kx++)
                if (p - kx >= 0 && p - kx < COUNT) sums[p - kx] += taps[ky * 3 + kx] * value;
        }
#pragma GCC unroll 8
    for (int t = 0; t < COUNT; t++) store(to + t * PANEL, sums[t]);
}

// Rows [begin, end) of the 3×3 convolution with taps (9, PANEL); `to` has no frame. bias may be null.
inline void convolve(const Framed& from, const float* taps, const float* bias, int64_t begin, int64_t end, float* to) {
    for (int64_t c = 0; c < PANEL; c += LANES) {
        vec k[9];
        for (int i = 0; i < 9; i++) k[i] = load(taps + i * PANEL + c);
        const vec start = bias ? load(bias + c) : vec{};
        for (int64_t y = begin; y < end; y++) {
            const float* row = from.at(y - 1, -1) + c;
            float* out = to + (y - begin) * from.width * PANEL + c;
            int64_t x = 0;
            for (; x + ADJACENT <= from.width; x += ADJACENT)
                convolve_adjacent<ADJACENT>(row + x * PANEL, from.line(), k, start, out + x * PANEL);
            for (; x < from.width; x++) convolve_adjacent<1>(row + x * PANEL, from.line(), k, start, out + x * PANEL);
        }
    }
}

// The gradients of the taps (9, PANEL) and of the bias (PANEL), which follow one another in `sums`, over rows [begin, end).
inline void add_tap_gradients(const Framed& from, const Framed& top, int64_t begin, int64_t end, float* sums) {
    for (int64_t c = 0; c < PANEL; c += LANES) {
        vec k[10];
        for (int i = 0; i < 10; i++) k[i] = load(sums + i * PANEL + c);
        for (int64_t y = begin; y < end; y++) {
            const float *row = from.at(y - 1, -1) + c, *grad = top.at(y, 0) + c;
            for (int64_t x = 0; x < from.width; x++, row += PANEL, grad += PANEL) {
                const vec g = load(grad);
#pragma GCC unroll 16
                for (int i = 0; i < 9; i++) k[i] += g * load(row + i / 3 * from.line() + i % 3 * PANEL);
                k[9] += g;
            }
        }
        for (int i = 0; i < 10; i++) store(sums + i * PANEL + c, k[i]);
    }
}

// Taps (C, 1, 3, 3) as (panels, 9, PANEL), reversed or not, zeros past the last channel.
inline void pack_taps(const float* weight, int64_t chans, bool reversed, float* to) {
    for (int64_t first = 0; first < chans; first += PANEL)
        for (int i = 0; i < 9; i++)
            for (int64_t c = 0; c < PANEL; c++)
                *to++ = first + c < chans ? weight[(first + c) * 9 + (reversed ? 8 - i : i)] : 0.0f;
}

}  // namespace
}  // namespace jvan

// How the convolutional feed-forward cuts a batch: into bands of rows, and these into groups that share what is read of the weights.
#pragma once

# include "strassen.h"

namespace jvan {
namespace {

// Hidden channels that a product sums over at a time.
template <class Scheme>
constexpr int64_t CHUNK = 128 * Scheme::PARTS;
constexpr int64_t BAND_PIXELS = 784;     // of a map at a time
constexpr int64_t GROUP_FLOATS = 65536;  // of a strip of x, which may span several bands

struct FeedForward {
    int64_t batch, height, width, chans, hidden;

    int64_t pixels() const { return height * width; }
    Pairs chan_pairs() const { return {chans}; }
    // In all of h as it is kept, (panels, N, H, W, PANEL): where a row of panel k / PANEL begins.
    int64_t kept(int64_t k, int64_t picture, int64_t row) const {
        return ((k / PANEL * batch + picture) * pixels() + row * width) * PANEL;
    }
};

// Rows [top, bottom) of a picture, with `halo` more where the picture has them.
struct Band {
    int64_t picture, top, bottom, height, width;

    int64_t first(int64_t halo) const { return std::max<int64_t>(top - halo, 0); }
    int64_t last(int64_t halo) const { return std::min(bottom + halo, height); }
    int64_t rows(int64_t halo) const { return last(halo) - first(halo); }
    int64_t pixels(int64_t halo) const { return rows(halo) * width; }
    int64_t above(int64_t halo) const { return (top - first(halo)) * width; }
    // Where the rows begin in an array (N, H, W).
    int64_t at(int64_t halo) const { return (picture * height + first(halo)) * width; }
};

// How a batch is cut into bands, and these into groups, which share what is read of the weights.
struct Bands {
    const FeedForward& map;
    int64_t per_picture, groups;

    Bands(const FeedForward& map, int64_t group_floats = GROUP_FLOATS) : map(map) {
        const int64_t threads = omp_get_max_threads();
        const int64_t most = std::max<int64_t>(BAND_PIXELS / map.width, 1);
        per_picture = std::max((map.height + most - 1) / most, (threads + map.batch - 1) / map.batch);
        per_picture = std::min(per_picture, map.height);
        const int64_t floats = map.pixels() / per_picture * padded(map.chans);
        const int64_t together = std::max<int64_t>(group_floats / std::max<int64_t>(floats, 1), 1);
        groups = (count() + together - 1) / together;
        groups = std::min((groups + threads - 1) / threads * threads, count());
    }
    int64_t count() const { return map.batch * per_picture; }
    int64_t begin(int64_t group) const { return count() * group / groups; }
    Band at(int64_t i) const {
        const int64_t part = i % per_picture;
        return {i / per_picture, map.height * part / per_picture, map.height * (part + 1) / per_picture, map.height, map.width};
    }
    // For Strassen's algorithm: a picture to a group, since what it cuts in four shares its rounding.
    static Bands pictures(const FeedForward& map) { return Bands(map, 1); }
    // Whether that algorithm can be used: whole pictures, and everything has two halves; and whether it should: its products
    // took as long as plain ones at 128 channels, and with 512 × 2048 weights, whose sums no cache holds.
    bool can_halve() const {
        const bool can = per_picture == 1 && map.pixels() % 2 == 0 && map.chans % (2 * PANEL) == 0 && map.hidden % CHUNK<Strassen> == 0;
        return can && map.pixels() >= 96 && map.chans >= 320 && map.chans * map.hidden <= 448 * 1024;
    }
    // Of any group, with `halo` more rows around each band.
    int64_t most_pixels(int64_t halo) const {
        return (count() + groups - 1) / groups * ((map.height + per_picture - 1) / per_picture + 2 * halo) * map.width;
    }
};

// The bands of one group.
struct Group {
    std::vector<Band> bands;
    std::vector<int64_t> before[3];  // by halo: how many pixels lie before each band, and in all

    Group(const Bands& all, int64_t group) {
        for (int64_t i = all.begin(group); i < all.begin(group + 1); i++) bands.push_back(all.at(i));
        for (int64_t halo = 0; halo < 3; halo++) {
            before[halo].push_back(0);
            for (const Band& band : bands) before[halo].push_back(before[halo].back() + band.pixels(halo));
        }
    }
    int64_t count() const { return int64_t(bands.size()); }
    int64_t pixels(int64_t halo) const { return before[halo].back(); }
    // Calls f(pixels, and how many lie before them with halo1 and with halo2) for the bands' own, as one where none has a halo.
    template <class F>
    void each_run(int64_t halo1, int64_t halo2, F f) const {
        if (pixels(2) == pixels(0)) return f(pixels(0), 0, 0);
        for (int64_t b = 0; b < count(); b++)
            f(bands[b].pixels(0), before[halo1][b] + bands[b].above(halo1), before[halo2][b] + bands[b].above(halo2));
    }
};

}  // namespace
}  // namespace jvan

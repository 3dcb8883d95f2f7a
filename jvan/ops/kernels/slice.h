// Slices of a channels-last map: one vector of channels, copied to scratch memory where pixel follows pixel.
//
// In the map itself the pixels of a slice lie C floats apart, which for a C of 128 or 512 leaves them few places in a cache:
// they displace each other between two taps. Copied once they need half of the time (docs/performance.md).
#pragma once

# include "scratch.h"

namespace jvan {
namespace {

struct RowRange {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
};

// Channels [chan, chan + lanes) of one picture (H, W, C); what is between `lanes` and LANES is filled up with zeros.
struct Slice {
    int64_t picture, chan;
    int lanes;
};

// How a batch (N, H, W, C) is cut into slices and these, where they are too few or too large, into strips of rows.
struct Slices {
    int64_t batch, height, width, chans, strips;

    Slices(int64_t batch, int64_t height, int64_t width, int64_t chans)
        : batch(batch), height(height), width(width), chans(chans) {
        const int64_t wanted = 4 * omp_get_max_threads(), slices = batch * blocks();
        const int64_t large = (height * width + 8191) / 8192;  // half a megabyte
        strips = std::min(std::max((wanted + slices - 1) / slices, large), std::max<int64_t>(1, height / 4));
    }
    int64_t blocks() const { return (chans + LANES - 1) / LANES; }
    int64_t tasks() const { return batch * strips * blocks(); }
    int64_t block(int64_t task) const { return task % blocks(); }
    Slice of_block(int64_t block, int64_t picture = 0) const {
        return {picture, block * LANES, int(std::min<int64_t>(LANES, chans - block * LANES))};
    }
    Slice slice(int64_t task) const { return of_block(block(task), task / blocks() / strips); }
    RowRange rows(int64_t task) const {
        const int64_t strip = task / blocks() % strips;
        return {height * strip / strips, height * (strip + 1) / strips};
    }
    // Rows of a slice into scratch memory, of which is returned where row 0 lies or would lie.
    const float* take(const float* map, const Slice& slice, RowRange rows, float* scratch) const {
        const float* from = map + (slice.picture * height + rows.begin) * width * chans + slice.chan;
        const int64_t pixels = rows.count() * width;
        if (slice.lanes == LANES)
            for (int64_t i = 0; i < pixels; i++) store(scratch + i * LANES, load(from + i * chans));
        else
            for (int64_t i = 0; i < pixels; i++) store(scratch + i * LANES, load_tail(from + i * chans, slice.lanes));
        return place(scratch, rows);
    }
    // And back to the map, from where row 0 lies or would lie.
    void put(const float* from, const Slice& slice, RowRange rows, float* map) const {
        float* to = map + (slice.picture * height + rows.begin) * width * chans + slice.chan;
        const int64_t pixels = rows.count() * width;
        from += rows.begin * width * LANES;
        if (slice.lanes == LANES)
            for (int64_t i = 0; i < pixels; i++) store(to + i * chans, load(from + i * LANES));
        else
            for (int64_t i = 0; i < pixels; i++) store_tail(to + i * chans, load(from + i * LANES), slice.lanes);
    }
    // Where row 0 would lie of rows that begin at `scratch`.
    float* place(float* scratch, RowRange rows) const { return scratch - rows.begin * width * LANES; }
    int64_t floats(RowRange rows) const { return rows.count() * width * LANES; }
};

}  // namespace
}  // namespace jvan

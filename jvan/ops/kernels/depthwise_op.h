// Depthwise convolution of a batch (N, H, W, C): its slices are shared out among threads.
#pragma once

# include "arguments.h"
# include "depthwise.h"

namespace jvan {
namespace {

// A convolution's taps, packed, and its bias, for each block of channels; `reversed`: for the gradient of its input, which
// has no bias.
struct Kernel {
    DepthwiseMap map;
    float* taps;
    const float* bias;

    const float* taps_of(int64_t block) const { return taps + block * map.taps() * LANES; }
    vec bias_of(const Slice& slice) const { return bias ? load_tail(bias + slice.chan, slice.lanes) : vec{}; }
    void run(const float* x, int64_t block, const Slice& slice, RowRange rows, float* y) const {
        convolve(map, x, taps_of(block), bias_of(slice), rows, y);
    }
};

template <class Slot>
inline Kernel take_kernel(const Slices& all, const float* weight, const float* bias, int64_t size, int64_t dilation,
                          bool reversed, Scratch<Slot>& scratch, Slot slot) {
    Kernel kernel = {depthwise_map(all.height, all.width, size, dilation, reversed), nullptr, reversed ? nullptr : bias};
    const int64_t taps = kernel.map.taps();
    kernel.taps = scratch.get(slot, all.blocks() * taps * LANES);
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < all.blocks(); block++)
        pack_taps(weight, taps, all.of_block(block), reversed, kernel.taps + block * taps * LANES);
    return kernel;
}

// x, y: (N, H, W, C); weight: (C, 1, K, K); bias: (C)
struct DepthwiseConvolution {
    Input x, weight, bias;
    Output y;
};

// `reversed`: the gradient of the input, from that of the output as x.
inline void depthwise_batch(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t size, int64_t dilation,
                            bool reversed, const DepthwiseConvolution& args) {
    enum class Own { X, Y, COUNT };
    enum class Shared { TAPS, COUNT };
    static Scratch<Shared> shared;
    const Slices all(batch, height, width, chans);
    const Kernel kernel = take_kernel(all, args.weight, args.bias, size, dilation, reversed, shared, Shared::TAPS);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < all.tasks(); task++) {
        static thread_local Scratch<Own> own;
        const Slice slice = all.slice(task);
        const RowRange rows = all.rows(task), under = kernel.map.under(rows);
        const float* from = all.take(args.x, slice, under, own.get(Own::X, all.floats(under)));
        float* to = all.place(own.get(Own::Y, all.floats(rows)), rows);
        kernel.run(from, all.block(task), slice, rows, to);
        all.put(to, slice, rows, args.y);
    }
}

}  // namespace
}  // namespace jvan

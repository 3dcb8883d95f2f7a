// A strided K×K convolution of channels-last maps as a product with its patches, gathered strip by strip.
#pragma once

# include "arguments.h"
# include "pointwise_product.h"

namespace jvan {
namespace {

struct Patches {
    int64_t batch, height, width, chans, out_height, out_width, out_chans, size, stride, padding;

    int64_t depth() const { return size * size * chans; }  // in the order row, column, channel
    int64_t rows() const { return batch * out_height * out_width; }
    int64_t pixels() const { return height * width; }
    // Strips of so few rows that a patch strip and the packed weights' panel stay in the second-level cache.
    Strips strips() const { return Strips(rows(), std::max(depth(), out_chans)); }
};

// Weights (O, C, K, K) as (O, K, K, C), in the order of a patch.
inline float* reordered(const Patches& p, const float* weight, float* to) {
    const int64_t taps = p.size * p.size;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < p.out_chans; o++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < p.chans; c++)
                to[(o * taps + t) * p.chans + c] = weight[(o * p.chans + c) * taps + t];
    return to;
}

// Calls f(offset in the patch, offset in the picture's map, floats) for each row of the patch that meets the picture.
template <class F>
JVAN_INLINE void for_each_run(const Patches& p, int64_t y, int64_t x, F f) {
    const int64_t top = y * p.stride - p.padding, left = x * p.stride - p.padding;
    const int64_t first = std::max<int64_t>(-left, 0), last = std::min(p.size, p.width - left);
    for (int64_t ky = std::max<int64_t>(-top, 0); ky < std::min(p.size, p.height - top); ky++)
        if (last > first)
            f((ky * p.size + first) * p.chans, ((top + ky) * p.width + left + first) * p.chans, (last - first) * p.chans);
}

inline void gather(const Patches& p, const float* x, int64_t begin, int64_t count, float* to, int64_t pitch) {
    for (int64_t i = begin; i < begin + count; i++, to += pitch) {
        const int64_t column = i % p.out_width, row = i / p.out_width % p.out_height;
        const float* picture = x + i / p.out_width / p.out_height * p.pixels() * p.chans;
        std::fill(to, to + padded(p.depth()), 0.0f);
        for_each_run(p, row, column, [&](int64_t at, int64_t from, int64_t floats) {
            std::copy(picture + from, picture + from + floats, to + at);
        });
    }
}

struct Convolution {
    Input x, weight, bias;
    Output y;
};

inline void convolve_patches(const Patches& p, const Convolution& args) {
    enum class Own { PATCHES, SUMS, COUNT };
    enum class Shared { ORDERED, PANELS, BIAS, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = p.out_chans, width = padded(chans), pitch = pitch_of(chans), depth = p.depth();
    const float* matrix = reordered(p, args.weight, shared.get(Shared::ORDERED, chans * depth));
    float* panels = shared.get(Shared::PANELS, width * depth);
    pack_panels(matrix, 1, depth, depth, chans, nullptr, panels);
    const float* start = padded_copy(args.bias, chans, shared.get(Shared::BIAS, width));
    const Strips strips = p.strips();
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
        float *patches = own.get(Own::PATCHES, strips.longest() * pitch_of(depth)), *sums = own.get(Own::SUMS, strips.longest() * pitch);
        gather(p, args.x, begin, count, patches, pitch_of(depth));
        multiply({patches, pitch_of(depth)}, count, whole(panels, depth), width, Result(sums, pitch, start));
        store_strip(args.y + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(sums + i * pitch + c); });
    }
}

struct ConvolutionWeights {
    Input dy, x;
    Output dweight, dbias;
};

inline void patch_weight_gradients(const Patches& p, const ConvolutionWeights& args) {
    enum class Own { DW, DB, PATCHES, DY, COUNT };
    enum class Shared { ORDERED, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = p.out_chans, depth = p.depth(), width = padded(depth), taps = p.size * p.size;
    float* ordered = shared.get(Shared::ORDERED, chans * depth);
    const Strips strips = p.strips();
    Partial part, part_bias;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        float *sum = own.zeros(Own::DW, chans * width), *bias_sum = own.zeros(Own::DB, padded(chans));
        float* patches = own.get(Own::PATCHES, strips.longest() * pitch_of(depth));
        part.is(sum), part_bias.is(bias_sum);
#pragma omp for schedule(static)
        for (int64_t s = 0; s < strips.count; s++) {
            const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
            const Rows top = strip_of(args.dy + begin * chans, count, chans, own.get(Own::DY, strips.longest() * pitch_of(chans)));
            gather(p, args.x, begin, count, patches, pitch_of(depth));
            multiply_transposed(top, chans, {patches, pitch_of(depth)}, width, count, sums_of(sum, chans));
            add_columns(top, count, padded(chans), bias_sum);
        }
        part.sum_panels(ordered, chans, depth);
        part_bias.sum(args.dbias, 1, chans, 0);
#pragma omp for schedule(static)
        for (int64_t o = 0; o < chans; o++)
            for (int64_t t = 0; t < taps; t++)
                for (int64_t c = 0; c < p.chans; c++)
                    args.dweight[(o * p.chans + c) * taps + t] = ordered[(o * taps + t) * p.chans + c];
    }
}

// Pictures are shared out among threads, and pieces of a picture's rows where there are few: each adds the patches'
// gradients that fall on its own rows.
struct ConvolutionInput {
    Input dy, weight;
    Output dx;
};

inline void patch_input_gradient(const Patches& p, const ConvolutionInput& args) {
    enum class Own { PATCHES, COUNT };
    enum class Shared { ORDERED, PANELS, COUNT };
    static Scratch<Shared> shared;
    const int64_t chans = p.out_chans, depth = p.depth(), width = padded(depth), pitch = pitch_of(depth);
    const float* matrix = reordered(p, args.weight, shared.get(Shared::ORDERED, chans * depth));
    float* panels = shared.get(Shared::PANELS, width * chans);
    pack_panels(matrix, depth, 1, chans, depth, nullptr, panels);
    const int64_t threads = omp_get_max_threads(), pieces = std::min((threads + p.batch - 1) / p.batch, p.height);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < p.batch * pieces; task++) {
        static thread_local Scratch<Own> own;
        const int64_t picture = task / pieces, piece = task % pieces;
        const int64_t first = p.height * piece / pieces, last = p.height * (piece + 1) / pieces;
        float *to = args.dx + picture * p.pixels() * p.chans, *patches = own.get(Own::PATCHES, p.out_width * pitch);
        std::fill(to + first * p.width * p.chans, to + last * p.width * p.chans, 0.0f);
        for (int64_t y = 0; y < p.out_height; y++) {
            const int64_t top = y * p.stride - p.padding;
            if (top + p.size <= first || top >= last) continue;
            const float* from = args.dy + (picture * p.out_height + y) * p.out_width * chans;
            multiply({from, chans}, p.out_width, whole(panels, chans), width, Result(patches, pitch));
            for (int64_t x = 0; x < p.out_width; x++)
                for_each_run(p, y, x, [&](int64_t at, int64_t pixel, int64_t floats) {
                    const int64_t row = pixel / (p.width * p.chans);
                    if (row < first || row >= last) return;
                    for (int64_t k = 0; k < floats; k++) to[pixel + k] += patches[x * pitch + at + k];
                });
        }
    }
}

}  // namespace
}  // namespace jvan

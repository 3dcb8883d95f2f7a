// A 1×1 layer: y = x·Wᵀ + b over rows of channels, and its gradients in one pass.
#pragma once

# include "arguments.h"
# include "pointwise_product.h"

namespace jvan {
namespace {

// x (rows, depth), weight (chans, depth), bias (chans) → y (rows, chans)
struct Pointwise {
    Input x, weight, bias;
    Output y;
};

inline void pointwise(int64_t rows, int64_t depth, int64_t chans, const Pointwise& args) {
    enum class Own { SUMS, COUNT };
    enum class Shared { PANELS, BIAS, COUNT };
    static Scratch<Shared> shared;
    const int64_t width = padded(chans), pitch = pitch_of(chans);
    float* panels = shared.get(Shared::PANELS, width * depth);
    pack_panels(args.weight, 1, depth, depth, chans, nullptr, panels);
    const float* start = padded_copy(args.bias, chans, shared.get(Shared::BIAS, width));
    const Strips strips(rows, std::max(chans, depth));
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
        float* sums = own.get(Own::SUMS, strips.longest() * pitch);
        multiply({args.x + begin * depth, depth}, count, whole(panels, depth), width, Result(sums, pitch, start));
        store_strip(args.y + begin * chans, count, chans, [&](int64_t i, int64_t c) { return load(sums + i * pitch + c); });
    }
}

struct PointwiseBackward {
    Input dy, x, weight;
    Output dx, dweight, dbias;
};

inline void pointwise_backward(int64_t rows, int64_t depth, int64_t chans, const PointwiseBackward& args) {
    enum class Own { DW, DB, DX, DY, X, COUNT };
    enum class Shared { PANELS, COUNT };
    static Scratch<Shared> shared;
    const int64_t width = padded(depth), pitch = pitch_of(depth), out_pitch = pitch_of(chans);
    float* panels = shared.get(Shared::PANELS, width * chans);
    pack_panels(args.weight, depth, 1, chans, depth, nullptr, panels);
    const Strips strips(rows, std::max(chans, depth));
    Partial part, part_bias;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        float *sum = own.zeros(Own::DW, chans * width), *bias_sum = own.zeros(Own::DB, padded(chans));
        float* result = own.get(Own::DX, strips.longest() * pitch);
        part.is(sum), part_bias.is(bias_sum);
#pragma omp for schedule(static)
        for (int64_t s = 0; s < strips.count; s++) {
            const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
            const Rows top = strip_of(args.dy + begin * chans, count, chans, own.get(Own::DY, strips.longest() * out_pitch));
            const Rows from = strip_of(args.x + begin * depth, count, depth, own.get(Own::X, strips.longest() * pitch));
            multiply_transposed(top, chans, from, width, count, sums_of(sum, chans));
            add_columns(top, count, padded(chans), bias_sum);
            multiply(top, count, whole(panels, chans), width, Result(result, pitch));
            store_strip(args.dx + begin * depth, count, depth, [&](int64_t i, int64_t c) { return load(result + i * pitch + c); });
        }
        part.sum_panels(args.dweight, chans, depth);
        part_bias.sum(args.dbias, 1, chans, 0);
    }
}

}  // namespace
}  // namespace jvan

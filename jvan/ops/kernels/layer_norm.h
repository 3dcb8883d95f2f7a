// LayerNorm of channels-last maps in training, each row of C channels by itself.
#pragma once

# include "arguments.h"
# include "strips.h"

# include <cmath>

namespace jvan {
namespace {

// Mean and 1 / sqrt(var + eps) of the first `chans` of a PANEL-padded row.
inline void row_statistics(const float* row, int64_t chans, float eps, float& mean, float& rstd) {
    float sum = 0, square = 0;
    for (int64_t c = 0; c < chans; c++) sum += row[c];
    mean = sum / chans;
    for (int64_t c = 0; c < chans; c++) square += (row[c] - mean) * (row[c] - mean);
    rstd = 1 / std::sqrt(square / chans + eps);
}

struct LayerNormForward {
    Input x, weight, bias, eps;  // eps: an array of one
    Output y;
};

inline void layer_norm_forward(int64_t rows, int64_t chans, const LayerNormForward& args) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float* from = args.x + i * chans;
        float mean, rstd;
        row_statistics(from, chans, *args.eps, mean, rstd);
        for (int64_t c = 0; c < chans; c++) args.y[i * chans + c] = (from[c] - mean) * rstd * args.weight[c] + args.bias[c];
    }
}

// dx = (dy·w - mean(dy·w) - x̂·mean(dy·w·x̂))·rstd; dw = Σ dy·x̂; db = Σ dy
struct LayerNormBackward {
    Input dy, x, weight, eps;
    Output dx, dweight, dbias;
};

inline void layer_norm_backward(int64_t rows, int64_t chans, const LayerNormBackward& args) {
    enum class Own { SUMS, COUNT };
    Partial partial;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        float* sums = own.zeros(Own::SUMS, 2 * chans + PANEL);  // whole panels are read
        partial.is(sums);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const float *from = args.x + i * chans, *grad = args.dy + i * chans;
            float mean, rstd, level = 0, slope = 0;
            row_statistics(from, chans, *args.eps, mean, rstd);
            for (int64_t c = 0; c < chans; c++) {
                const float normal = (from[c] - mean) * rstd;
                level += grad[c] * args.weight[c];
                slope += grad[c] * args.weight[c] * normal;
                sums[c] += grad[c] * normal;
                sums[chans + c] += grad[c];
            }
            level /= chans, slope /= chans;
            for (int64_t c = 0; c < chans; c++)
                args.dx[i * chans + c] = (grad[c] * args.weight[c] - level - (from[c] - mean) * rstd * slope) * rstd;
        }
        partial.sum(args.dweight, 1, chans, 0);
        partial.sum(args.dbias, 1, chans, 0, chans);
    }
}

}  // namespace
}  // namespace jvan

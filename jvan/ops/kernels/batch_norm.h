// BatchNorm of channels-last maps in training: statistics, forward and backward pass.
#pragma once

# include "arguments.h"
# include "norm.h"

namespace jvan {
namespace {

// Adds a block of rows to mean and squares (Σ(x - mean)²), in double, by the rule for the union of two samples.
inline void add_to_statistics(Rows x, int64_t rows, int64_t chans, int64_t before, double* mean, double* squares) {
    for (int64_t c = 0; c < chans; c += LANES) {
        const float* column = x.a + c;
        const vec middle = sum_rows(rows, [&](int64_t i, Sums& s) { s.one += load(column + i * x.row); }).one / float(rows);
        const Sums around = sum_rows(rows, [&](int64_t i, Sums& s) {
            __builtin_prefetch(column + (i + rows) * x.row);  // of the next block: a column is no stream
            const vec away = load(column + i * x.row) - middle;
            s.one += away, s.two += away * away;
        });
        const vec excess = around.one / float(rows), total = around.two;  // what rounding left in `middle`
        for (int64_t lane = 0; lane < LANES && c + lane < chans; lane++) {
            const double block = double(middle[lane]) + excess[lane], delta = block - mean[c + lane];
            const double weight = double(rows) / (before + rows);
            mean[c + lane] += delta * weight;
            squares[c + lane] += double(total[lane]) - double(excess[lane]) * excess[lane] * rows + delta * delta * before * weight;
        }
    }
}

// Mean and (biased) variance of each channel over the rows, in one pass over memory.
struct BatchStatistics {
    Input x;
    Output mean, var;
};

inline void batch_statistics(int64_t rows, int64_t chans, const BatchStatistics& args) {
    enum class Own { X, COUNT };
    const int64_t block = 64, blocks = (rows + block - 1) / block, threads = omp_get_max_threads();
    std::vector<double> means(threads * chans), squares(threads * chans);
    std::vector<int64_t> counts(threads);
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const int64_t me = omp_get_thread_num();
        float* copy = own.get(Own::X, block * pitch_of(chans));
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t begin = b * block, count = std::min(block, rows - begin);
            const Rows strip = strip_of(args.x + begin * chans, count, chans, copy);
            add_to_statistics(strip, count, chans, counts[me], &means[me * chans], &squares[me * chans]);
            counts[me] += count;
        }
    }
    for (int64_t c = 0; c < chans; c++) {
        double m = 0, s = 0;
        int64_t before = 0;
        for (int64_t t = 0; t < threads; t++) {
            if (!counts[t]) continue;
            const double delta = means[t * chans + c] - m, weight = double(counts[t]) / (before + counts[t]);
            s += squares[t * chans + c] + delta * delta * before * weight;
            m += delta * weight;
            before += counts[t];
        }
        args.mean[c] = m, args.var[c] = s / rows;
    }
}

struct BatchNormForward {
    Input x, mean, rstd, gamma, beta;
    Output y;
};

inline void batch_norm_forward(int64_t rows, int64_t chans, const BatchNormForward& args) {
    enum class Own { X, COUNT };
    enum class Shared { NORM, COUNT };
    static Scratch<Shared> shared;
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.beta, chans, shared, Shared::NORM);
    const Strips strips(rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
        static thread_local Scratch<Own> own;
        const Rows from = strip_of(args.x + begin * chans, count, chans, own.get(Own::X, strips.longest() * pitch_of(chans)));
        store_strip(args.y + begin * chans, count, chans, [&](int64_t i, int64_t c) { return apply(norm, load(from.a + i * from.row + c), c); });
    }
}

struct BatchNormSums {
    Input dy, x, mean, rstd;
    Output sums;  // (2, C): of dy, and of dy·x̂
};

inline void batch_norm_sums(int64_t rows, int64_t chans, const BatchNormSums& args) {
    enum class Own { SUMS, DY, X, COUNT };
    enum class Shared { NORM, COUNT };
    static Scratch<Shared> shared;
    const int64_t pitch = pitch_of(chans), width = padded(chans);
    const Affine norm = affine(args.mean, args.rstd, args.rstd, args.rstd, chans, shared, Shared::NORM);
    const Strips strips(rows, chans);
    Partial partial;
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        float* mine = own.zeros(Own::SUMS, 2 * width);
        float *dy_copy = own.get(Own::DY, strips.longest() * pitch), *x_copy = own.get(Own::X, strips.longest() * pitch);
        partial.is(mine);
#pragma omp for schedule(static)
        for (int64_t s = 0; s < strips.count; s++) {
            const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin;
            add_norm_sums(norm, strip_of(args.dy + begin * chans, count, chans, dy_copy),
                          strip_of(args.x + begin * chans, count, chans, x_copy), count, chans, mine, mine + width);
        }
        partial.sum(args.sums, 2, chans, width);
    }
}

// dx = [residual +] gamma·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)), without the means where the statistics are constants.
struct BatchNormBackward {
    Input dy, x, mean, rstd, gamma, sums, residual;  // sums: as batch_norm_sums makes them
    Output dx;
};

inline void batch_norm_backward(int64_t rows, int64_t chans, bool with_residual, bool constant, const BatchNormBackward& args) {
    enum class Own { X, DY, RESIDUAL, COUNT };
    enum class Shared { NORM, LEVEL, SLOPE, COUNT };
    static Scratch<Shared> shared;
    const Affine norm = affine(args.mean, args.rstd, args.gamma, args.rstd, chans, shared, Shared::NORM);
    const int64_t width = padded(chans), pitch = pitch_of(chans);
    float *level = shared.zeros(Shared::LEVEL, width), *slope = shared.zeros(Shared::SLOPE, width);
    for (int64_t c = 0; c < chans && !constant; c++)
        level[c] = args.sums[c] / rows, slope[c] = args.sums[chans + c] / rows * args.rstd[c];
    const Strips strips(rows, chans);
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < strips.count; s++) {
        static thread_local Scratch<Own> own;
        const int64_t begin = strips.begin(s), count = strips.begin(s + 1) - begin, at = begin * chans;
        const Rows from = strip_of(args.x + at, count, chans, own.get(Own::X, strips.longest() * pitch));
        const Rows grad = strip_of(args.dy + at, count, chans, own.get(Own::DY, strips.longest() * pitch));
        auto result = [&](int64_t i, int64_t c) {
            const vec away = load(from.a + i * from.row + c) - load(norm.mean + c);
            return load(norm.scale + c) * (load(grad.a + i * grad.row + c) - load(level + c) - away * load(slope + c));
        };
        if (!with_residual) {
            store_strip(args.dx + at, count, chans, result);
        } else {
            const Rows base = strip_of(args.residual + at, count, chans, own.get(Own::RESIDUAL, strips.longest() * pitch));
            store_strip(args.dx + at, count, chans, [&](int64_t i, int64_t c) { return load(base.a + i * base.row + c) + result(i, c); });
        }
    }
}

}  // namespace
}  // namespace jvan

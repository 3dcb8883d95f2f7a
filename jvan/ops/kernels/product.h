// A 1×1 layer with what follows it: to = after(from · weights + bias [+ scale·residual]), in one pass.
//
// Maps lie in blocks of 32 channels: channel c of pixel m at [c / 32][m][c % 32]. A pixel's block is two cache lines
// whatever the width of the map, so that neither a product's rows nor a depthwise kernel's columns lie a power of two
// apart, which a cache of few ways punishes. Channels past the last are zeros, made by zero weights.
#pragma once

# include "bfloat16.h"

namespace jvan {
namespace {

constexpr int BLOCK = 32;

// What becomes of a sum; ROUGH_GELU is bfloat16.h's, and the last three meet `gate`.
enum After { NOTHING, GELU, ROUGH_GELU, TIMES, PLUS, TIMES_SIGMOID };

struct Product {
    const float* from;  // value k of row m at from[m·row + (k / chunk)·chunk_stride + k % chunk]
    long row, chunk_stride;
    int chunk, depth;
    const float* weights;   // panels of (a multiple of) depth × 32
    long panel;             // from one panel to the next
    const float* bias;      // null: 0
    const float* residual;  // null: none; in blocks as `to`, which it may be
    const float* scale;     // null: 1
    const float* gate;      // in blocks as `to`
    float* to;
    long to_block;  // from one block of 32 channels to the next, in `to`, `residual` and `gate`
    After after;
    bool pairs;  // weights, and what `rounded` returns, are pairs of bfloat16 (bfloat16.h)
};

inline Product product(const float* from, long from_block, int blocks, const float* weights, const float* bias, float* to,
                       long to_block, bool pairs, After after = NOTHING) {
    Product p = {};
    p.from = from, p.row = BLOCK, p.chunk_stride = from_block, p.chunk = BLOCK, p.depth = blocks * BLOCK;
    p.weights = weights, p.panel = long(p.depth) * BLOCK / (pairs ? 2 : 1), p.bias = bias;
    p.to = to, p.to_block = to_block;
    p.after = after, p.pairs = pairs;
    return p;
}

template <class F>
inline void each(const Product& p, int panel, long begin, long end, F f) {
    float* to = p.to + panel * p.to_block;
    const float* gate = p.gate ? p.gate + panel * p.to_block : to;
    for (long i = begin * BLOCK; i < end * BLOCK; i += LANES) store(to + i, f(load(to + i), load(gate + i)));
}

inline void finish(const Product& p, int panel, long begin, long end) {
    switch (p.after) {
        case NOTHING: return;
        case GELU: return each(p, panel, begin, end, [](vec x, vec) { return gelu(x); });
        case ROUGH_GELU: return each(p, panel, begin, end, [](vec x, vec) { return rough_gelu(x); });
        case TIMES: return each(p, panel, begin, end, [](vec x, vec u) { return x * u; });
        case PLUS: return each(p, panel, begin, end, [](vec x, vec u) { return x + u; });
        case TIMES_SIGMOID: return each(p, panel, begin, end, [](vec x, vec u) { return u / (1 + exp(-x)); });
    }
}

}  // namespace
}  // namespace jvan

// A block of the network on one picture: the large-kernel attention and the convolutional feed-forward, BatchNorms, layer
// scales and the inner shortcut folded into the products (jvan/inference/fused/fold.py).
#pragma once

# include "depthwise_blocks.h"
# include "plan.h"

namespace jvan {
namespace {

constexpr int MOST_TAPS = 64;  // a side of the largest depthwise kernel

struct Maps {
    float *x, *spare, *u, *dw, *dw_d;  // x: what comes in and goes out
    float* hidden;  // of the whole team where it shares a picture's hidden map
    float *own, *strip, *words, *rounded;  // of this thread
};

struct Depthwise {
    int size, dilation;
    const float *weights, *bias;
    After after;
    Taps of(int block) const {
        return {size, dilation, weights + long(block) * size * size * BLOCK, bias + block * BLOCK, after};
    }
};

inline Depthwise take_depthwise(Cursor& weights, int size, int dilation, int blocks, After after) {
    Depthwise d = {size, dilation, nullptr, nullptr, after};
    d.weights = weights.take(long(blocks) * size * size * BLOCK);
    d.bias = weights.take(blocks * BLOCK);
    return d;
}

// Rows [begin, end) of one block of channels, from a whole map to a whole map.
inline void depthwise(const Taps& taps, const float* from, int height, int width, int begin, int end, float* to) {
    const float* rows[MOST_TAPS];
    for (int y = begin; y < end; y++) {
        int top = y - taps.padding();
        for (int ky = 0; ky < taps.size; ky++, top += taps.dilation)
            rows[ky] = top < 0 || top >= height ? nullptr : from + long(top) * width * BLOCK;
        depthwise_row({taps, rows, width, to + long(y) * width * BLOCK});
    }
}

// A thread's share of a picture's map.
struct Share {
    int first_row, last_row, first_block, last_block;
    long begin, end;  // pixels
};

inline Share share(const Team& team, const Stage& stage) {
    Share s = {0, stage.height, 0, stage.blocks(), 0, 0};
    if (stage.by_channels)
        s.first_block = team.begin(stage.blocks()), s.last_block = team.end(stage.blocks());
    else
        s.first_row = team.begin(stage.height), s.last_row = team.end(stage.height);
    s.begin = long(s.first_row) * stage.width, s.end = long(s.last_row) * stage.width;
    return s;
}

inline void multiply_floats(const Product& p, const Share& s, const Maps& maps) {
    multiply_floats(p, s.begin, s.end, s.first_block, s.last_block, maps.words);
}

inline void gate_only(const Product& p, const Share& s) {
    for (int b = s.first_block; b < s.last_block; b++) {
        long begin = b * p.to_block + s.begin * BLOCK;
        std::memcpy(p.to + begin, p.from + begin, (s.end - s.begin) * BLOCK * sizeof(float));
        finish(p, b, s.begin, s.end);
    }
}

// x = x·scale + bias + W₂·gate(u, attention), u = gelu(W₁·x + b₁)
inline void attention(const Team& team, const Plan& plan, const Stage& stage, Cursor& weights, const Maps& maps) {
    const int blocks = stage.blocks(), chans = blocks * BLOCK;
    const long block = stage.block();
    const Share mine = share(team, stage);
    const bool pairs = plan.pairs;
    const float* w = weights.take(blocks * plan.panel(chans));
    multiply_floats(product(maps.x, block, blocks, w, weights.take(chans), maps.u, block, pairs, plan.gelu()), mine, maps);
    const float* from = maps.u;
    for (bool dilated : {false, true}) {
        int size = dilated ? plan.dw_d : plan.dw;
        if (!size) continue;
        Depthwise d = take_depthwise(weights, size, dilated ? plan.dilation : 1, blocks, NOTHING);
        float* to = dilated ? maps.dw_d : maps.dw;
        if (!stage.by_channels) team.wait();
        for (int b = mine.first_block; b < mine.last_block; b++)
            depthwise(d.of(b), from + b * block, stage.height, stage.width, mine.first_row, mine.last_row, to + b * block);
        from = to;
    }
    if (stage.by_channels) team.wait();
    const After gate = After(plan.gate);
    Product attend = product(from, block, blocks, nullptr, nullptr, maps.spare, block, pairs, gate);
    attend.gate = maps.u;
    if (plan.pw) {
        attend.weights = weights.take(blocks * plan.panel(chans));
        attend.bias = weights.take(chans);
        multiply_floats(attend, mine, maps);
    } else {
        gate_only(attend, mine);
    }
    if (stage.by_channels) team.wait();
    const float* scale = weights.take(chans);
    w = weights.take(blocks * plan.panel(chans));
    Product back = product(maps.spare, block, blocks, w, weights.take(chans), maps.x, block, pairs);
    back.residual = maps.x;
    back.scale = scale;
    multiply_floats(back, mine, maps);
    team.wait();
}

struct FoldedFeedForward {
    bool pairs;
    long expand_panel, reduce_panel;
    const float *expand, *expand_bias;
    Depthwise depthwise;
    const float *reduce, *reduce_bias;
};

inline FoldedFeedForward take_feed_forward(const Plan& plan, Cursor& weights, int blocks, int hidden) {
    FoldedFeedForward f;
    f.pairs = plan.pairs;
    f.expand_panel = plan.panel(blocks * BLOCK);
    f.reduce_panel = plan.panel(hidden * BLOCK);
    f.expand = weights.take(hidden * f.expand_panel);
    f.expand_bias = weights.take(hidden * BLOCK);
    f.depthwise = take_depthwise(weights, 3, 1, hidden, plan.gelu());
    f.reduce = weights.take(blocks * f.reduce_panel);
    f.reduce_bias = weights.take(blocks * BLOCK);
    return f;
}

// The product that makes hidden channels from `count` pixels of x, one panel for each block; panel 0 goes to `to`.
inline Product expansion(const FoldedFeedForward& f, const Stage& stage, const float* x, long count, const Maps& maps) {
    Product p = product(x, stage.block(), stage.blocks(), f.expand, f.expand_bias, nullptr, 0, f.pairs);
    return f.pairs ? rounded(p, 0, count, maps.rounded) : p;
}

// One block of hidden channels.
inline void expand(const FoldedFeedForward& f, Product p, int block, long count, float* to) {
    p.weights += block * f.expand_panel;
    p.bias += block * BLOCK;
    p.to = to;
    multiply(p, 0, count, 0, 1);
}

// The product that brings hidden blocks [first, first + count) back; later ones add to the sum of the former.
inline Product reduction(const FoldedFeedForward& f, const Stage& stage, const float* from, long from_block, int first, int count,
                         const float* x, float* to) {
    Product p = product(from, from_block, count, f.reduce, first ? nullptr : f.reduce_bias, to, stage.block(), f.pairs);
    p.weights += first * (f.reduce_panel / stage.hidden_blocks());
    p.panel = f.reduce_panel;
    p.residual = first ? to : x;
    return p;
}

// Row by row through a ring of three hidden rows, so that the hidden map stays in the nearest cache. From x to spare.
inline void feed_forward_rows(const Team& team, const Stage& stage, const FoldedFeedForward& f, const Maps& maps) {
    const int hidden = stage.hidden_blocks(), width = stage.width;
    const long row = long(width) * BLOCK, ring = 3 * row;
    const int begin = team.begin(stage.height), end = team.end(stage.height);
    for (int first = 0; first < hidden; first += stage.ring) {
        const int count = hidden - first < stage.ring ? hidden - first : stage.ring;
        float* out = maps.own + count * ring;
        for (int y = begin - 1; y <= end && begin < end; y++) {
            const bool inside = y >= 0 && y < stage.height;
            const Product make = inside ? expansion(f, stage, maps.x + y * row, width, maps) : Product{};
            for (int b = 0; b < count; b++) {
                float* slots = maps.own + b * ring;
                if (inside) expand(f, make, first + b, width, slots + y % 3 * row);
                if (y <= begin) continue;
                const float* rows[] = {y < 2 ? nullptr : slots + (y - 2) % 3 * row, slots + (y - 1) % 3 * row,
                                       y == stage.height ? nullptr : slots + y % 3 * row};
                depthwise_row({f.depthwise.of(first + b), rows, width, out + b * row});
            }
            if (y <= begin) continue;
            const long at = (y - 1) * row;
            const Product reduce = reduction(f, stage, out, row, first, count, maps.x + at, maps.spare + at);
            multiply_floats(reduce, 0, width, 0, stage.blocks(), maps.words);
        }
    }
    team.wait();
}

// A few blocks of hidden channels at a time, each for the whole map: no row is computed twice. From x to spare.
inline void feed_forward_maps(const Team& team, const Stage& stage, const FoldedFeedForward& f, const Maps& maps) {
    const int hidden = stage.hidden_blocks();
    const long block = stage.block();
    const Product make = expansion(f, stage, maps.x, stage.pixels(), maps);
    for (int first = 0; first < hidden; first += stage.chunk) {
        const int count = hidden - first < stage.chunk ? hidden - first : stage.chunk;
        for (int b = team.begin(count); b < team.end(count); b++) {
            expand(f, make, first + b, stage.pixels(), maps.own);
            depthwise(f.depthwise.of(first + b), maps.own, stage.height, stage.width, 0, stage.height, maps.hidden + b * block);
        }
        team.wait();
        multiply_floats(reduction(f, stage, maps.hidden, block, first, count, maps.x, maps.spare), share(team, stage), maps);
        team.wait();
    }
}

}  // namespace
}  // namespace jvan

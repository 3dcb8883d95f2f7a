// A strided K×K convolution as a product.
#pragma once

# include "plan.h"

namespace jvan {
namespace {

struct Picture {
    const float* data;
    int chans, height, width;
};

// Floats of a strip of a picture under one row of output: chans·K rows, padded.
inline long strip_width(const Stage& stage) { return long(stage.width - 1) * stage.stride + stage.kernel; }

// The rows (c, ky) of a picture (C, H, W) under row `y` of the output.
inline void picture_strip(const Picture& from, const Stage& stage, int y, float* to) {
    const int pad = stage.kernel / 2, top = y * stage.stride - pad;
    const long width = strip_width(stage), filled = width - pad < from.width ? width - pad : from.width;
    for (int c = 0; c < from.chans; c++)
        for (int ky = 0; ky < stage.kernel; ky++, to += width) {
            const bool outside = top + ky < 0 || top + ky >= from.height;
            const float* source = from.data + (long(c) * from.height + top + ky) * from.width;
            std::memset(to, 0, (outside ? width : pad) * sizeof(float));
            if (outside) continue;
            std::memcpy(to + pad, source, filled * sizeof(float));
            std::memset(to + pad + filled, 0, (width - pad - filled) * sizeof(float));
        }
}

// Of a picture: neighbouring pixels' patches overlap in the strip, `stride` floats apart, so that nothing is copied twice.
inline void embed_picture(const Team& team, const Stage& stage, const Picture& from, Product p, float* strip, float* to) {
    p.from = strip;
    p.row = stage.stride;
    p.chunk = stage.kernel;
    p.chunk_stride = strip_width(stage);
    for (int y = team.begin(stage.height); y < team.end(stage.height); y++) {
        picture_strip(from, stage, y, strip);
        p.to = to + long(y) * stage.width * BLOCK;
        multiply(p, 0, stage.width, 0, stage.blocks());
    }
}

// Rows of patches, values in the order (ky, kx, c), of pixels [begin, end).
inline void map_patches(const Picture& from, const Stage& stage, long begin, long end, long row, float* to) {
    const int k = stage.kernel, blocks = (from.chans + BLOCK - 1) / BLOCK;
    const long block = long(from.height) * from.width * BLOCK;
    for (long m = begin; m < end; m++, to += row) {
        const int top = int(m / stage.width) * stage.stride - k / 2, left = int(m % stage.width) * stage.stride - k / 2;
        float* at = to;
        for (int y = top; y < top + k; y++)
            for (int x = left; x < left + k; x++) {
                const bool outside = y < 0 || x < 0 || y >= from.height || x >= from.width;
                const float* source = from.data + (long(y) * from.width + x) * BLOCK;
                for (int b = 0; b < blocks; b++, at += BLOCK)
                    for (int v = 0; v < BLOCK; v += LANES) store(at + v, outside ? vec{} : load(source + b * block + v));
            }
    }
}

// Of a map in blocks: patches are laid out as rows for some pixels, then multiplied.
inline void embed_map(const Team& team, const Plan& plan, const Stage& stage, const Picture& from, Product p, float* strip,
                      float* words, float* to) {
    const long row = (p.depth + 15) / 16 * 16, count = plan.strip / row, last = team.end(stage.pixels());
    p.from = strip;
    p.row = row;
    p.chunk = p.depth;
    for (long m = team.begin(stage.pixels()); m < last; m += count) {
        const long end = m + count < last ? m + count : last;
        map_patches(from, stage, m, end, row, strip);
        p.to = to + m * BLOCK;
        multiply_floats(p, 0, end - m, 0, stage.blocks(), words);
    }
}

inline void patch_embed(const Team& team, const Plan& plan, const Stage& stage, bool stem, const Picture& from, Cursor& weights,
                        float* strip, float* words, float* to) {
    Product p = {};
    p.depth = stage.kernel * stage.kernel * (stem ? from.chans : (from.chans + BLOCK - 1) / BLOCK * BLOCK);
    p.pairs = plan.pairs && !stem;
    p.panel = stem ? long(p.depth) * BLOCK : plan.panel(p.depth);
    p.weights = weights.take(p.panel * stage.blocks());
    p.bias = weights.take(stage.blocks() * BLOCK);
    p.to_block = stage.block();
    if (stem)
        embed_picture(team, stage, from, p, strip, to);
    else
        embed_map(team, plan, stage, from, p, strip, words, to);
}

}  // namespace
}  // namespace jvan

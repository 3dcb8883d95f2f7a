// LayerNorm over the channels of pixels in blocks (see product.h), in place.
#pragma once

# include "gemm.h"

namespace jvan {
namespace {

// Of `chans` channels of one pixel, the sum of f(value); what lies past the last one is not summed.
template <class F>
inline float sum_channels(const float* pixel, long block, int chans, F f) {
    vec sum = {};
    int whole = chans / BLOCK;
    for (int b = 0; b < whole; b++)
        for (int v = 0; v < BLOCK; v += LANES) sum += f(load(pixel + b * block + v));
    float total = sum_lanes(sum);
    for (int c = 0; c < chans % BLOCK; c++) total += f(splat(pixel[whole * block + c]))[0];
    return total;
}

inline void layer_norm(float* map, long block, int chans, long begin, long end, const float* weight, const float* bias,
                       float eps) {
    int blocks = (chans + BLOCK - 1) / BLOCK;
    for (long m = begin; m < end; m++) {
        float* pixel = map + m * BLOCK;
        vec mean = splat(sum_channels(pixel, block, chans, [](vec x) { return x; }) / chans);
        float var = sum_channels(pixel, block, chans, [mean](vec x) { return (x - mean) * (x - mean); }) / chans;
        vec scale = splat(1 / __builtin_sqrtf(var + eps));
        for (int b = 0; b < blocks; b++)
            for (int v = 0; v < BLOCK; v += LANES) {
                float* at = pixel + b * block + v;
                store(at, (load(at) - mean) * scale * load(weight + b * BLOCK + v) + load(bias + b * BLOCK + v));
            }
    }
}

}  // namespace
}  // namespace jvan

// Depthwise convolution of a batch (N, H, W, C): shares the work out among threads.
#pragma once

# include "depthwise.h"

#include <omp.h>

namespace jvan {
namespace {

// How a batch is cut: `groups` of `blocks` of channels, `strips` of rows, for each picture.
struct Cut {
    int64_t batch, groups, strips, blocks;

    int64_t tasks() const { return batch * groups * strips; }
};

// Few channels and rows at a time, so that they stay in the second-level cache, and some tasks for each thread.
inline Cut cut_depthwise(const DepthwiseMap& map, int64_t batch) {
    const int64_t wanted = 4 * omp_get_max_threads(), all = map.blocks();
    const bool wide = map.chans >= LANES;
    int64_t blocks = map.size == 3 ? 4 : 1;
    while (blocks > 1 && batch * (all / blocks) < wanted) blocks /= 2;
    const int64_t groups = wide ? (all + blocks - 1) / blocks : 1;
    const int64_t few = (map.height + 13) / 14, more = (wanted + batch * groups - 1) / (batch * groups);
    const int64_t most = std::max<int64_t>(1, map.height / 4);
    const int64_t strips = std::min(most, map.size == 3 ? std::max(few, more) : more);
    return {batch, groups, strips, blocks};
}

// x, y: (N, H, W, C); weight: (C, 1, K, K); bias: (C) or null. `reversed`: the gradient of the input x from that of y.
inline void depthwise_batch(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t size, int64_t dilation,
                            const float* x, const float* weight, const float* bias, bool reversed, float* y) {
    static std::vector<float> packed;
    const DepthwiseMap map = depthwise_map(height, width, chans, size, dilation, reversed);
    const Cut cut = cut_depthwise(map, batch);
    packed.resize(packed_floats(map));
    auto as_it_is = [](vec value, int64_t, int64_t, int) { return value; };
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < map.blocks(); block++) pack_block(map, weight, reversed, block, packed.data());
#pragma omp for schedule(static)
        for (int64_t task = 0; task < cut.tasks(); task++) {
            const int64_t group = task % cut.groups, strip = task / cut.groups % cut.strips;
            const int64_t image = task / cut.groups / cut.strips * map.pixels() * chans;
            depthwise_blocks(map, x + image, packed.data(), bias, height * strip / cut.strips,
                             height * (strip + 1) / cut.strips, group * cut.blocks,
                             std::min(map.blocks(), (group + 1) * cut.blocks), y + image, as_it_is);
        }
    }
}

}  // namespace
}  // namespace jvan

// The whole network in inference, one picture by one thread where there are enough pictures, else one by all threads.
#pragma once

# include "arguments.h"
# include "block.h"
# include "block_layer_norm.h"
# include "patch_embed.h"

#include <omp.h>

#include <utility>

namespace jvan {
namespace {

struct Network {
    Input pictures;       // (N, C, H, W)
    Input weights;        // as jvan/inference/fused/packing.py packs them, on a cache line
    Output scratch;       // as jvan/inference/fused/plan.py counts it
    Output logits;        // (N, classes), or the pooled features (N, C) where there are no classes
    Output maps[STAGES];  // (N, C, h, w); those that the plan does not want are not touched, nor are such logits
};

// A thread's part of a map in blocks as (C, h, w).
inline void write_map(const Team& team, const Stage& stage, const float* from, float* to) {
    const long pixels = stage.pixels();
    for (long c = team.begin(stage.chans); c < team.end(stage.chans); c++) {
        const float* source = from + c / BLOCK * stage.block() + c % BLOCK;
        for (long m = 0; m < pixels; m++) to[c * pixels + m] = source[m * BLOCK];
    }
}

// The mean over the pixels, block by block.
inline void pool(const Team& team, const Stage& stage, const float* from, float* to) {
    for (int b = team.begin(stage.blocks()); b < team.end(stage.blocks()); b++)
        for (int v = 0; v < BLOCK; v += LANES) {
            vec sum = {};
            for (long m = 0; m < stage.pixels(); m++) sum += load(from + b * stage.block() + m * BLOCK + v);
            store(to + b * BLOCK + v, sum / float(stage.pixels()));
        }
}

struct Arena {
    float* at;
    float* take(long floats) {
        float* from = at;
        at += (floats + 15) / 16 * 16;
        return from;
    }
};

// Takes one picture through the stages; returns the cursor behind the last stage's weights, for the head.
inline Cursor run_stages(const Team& team, const Plan& plan, Picture from, Cursor weights, Maps maps, float* pooled,
                         const Network& args, long picture) {
    for (int i = 0; i < STAGES; i++) {
        const Stage& stage = plan.stages[i];
        if (!stage.height) break;  // no output needs it
        patch_embed(team, plan, stage, i == 0, from, weights, maps.strip, maps.words, maps.spare);
        std::swap(maps.x, maps.spare);
        team.wait();
        for (int d = 0; d < stage.depth; d++) {
            attention(team, plan, stage, weights, maps);
            FoldedFeedForward f = take_feed_forward(plan, weights, stage.blocks(), stage.hidden_blocks());
            (stage.ring ? feed_forward_rows : feed_forward_maps)(team, stage, f, maps);
            std::swap(maps.x, maps.spare);
        }
        const float* weight = weights.take(stage.blocks() * BLOCK);
        const float* bias = weights.take(stage.blocks() * BLOCK);
        layer_norm(maps.x, stage.block(), stage.chans, team.begin(stage.pixels()), team.end(stage.pixels()), weight, bias,
                   plan.norm_eps());
        team.wait();
        if (stage.wanted) write_map(team, stage, maps.x, args.maps[i] + picture * stage.chans * stage.pixels());
        from = {maps.x, stage.chans, stage.height, stage.width};
    }
    if (plan.logits) pool(team, plan.stages[STAGES - 1], maps.x, pooled);
    team.wait();
    return weights;
}

inline void head(const Team& team, const Plan& plan, long pictures, Cursor weights, const float* pooled, float* scratch, float* out) {
    const int blocks = plan.stages[STAGES - 1].blocks(), chans = plan.stages[STAGES - 1].chans;
    if (!plan.classes) {
        for (long i = team.begin(pictures); i < team.end(pictures); i++)
            std::memcpy(out + i * chans, pooled + i * blocks * BLOCK, chans * sizeof(float));
        return;
    }
    const int panels = (plan.classes + BLOCK - 1) / BLOCK;
    const float* w = weights.take(long(panels) * blocks * BLOCK * BLOCK);
    Product p = product(pooled, 0, blocks, w, weights.take(panels * BLOCK), scratch, pictures * BLOCK, false);
    p.row = p.chunk = blocks * BLOCK;
    const int first = team.begin(panels), last = team.end(panels);
    multiply(p, 0, pictures, first, last);
    for (int b = first; b < last; b++)
        for (long i = 0; i < pictures; i++) {
            int count = plan.classes - b * BLOCK < BLOCK ? plan.classes - b * BLOCK : BLOCK;
            std::memcpy(out + i * plan.classes + b * BLOCK, scratch + (b * pictures + i) * BLOCK, count * sizeof(float));
        }
}

inline void run_network(const Plan& plan, long count, int chans, int height, int width, const Network& args) {
    float* memory = args.scratch;
    const int width4 = plan.stages[STAGES - 1].blocks() * BLOCK;
    Arena scratch = {memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(float)};
    float* pooled = scratch.take(count * width4);
    float* logits = scratch.take(count * ((plan.classes + BLOCK - 1) / BLOCK * BLOCK));
    const long team = 5l * plan.map + plan.hidden;
    // By the number of threads that was asked for, as the scratch was counted: OpenMP may grant fewer.
    const bool shared = count < plan.threads;
    float* threads = scratch.take(plan.threads * plan.thread());
    float* teams = scratch.at;
    Barrier barrier;
#pragma omp parallel num_threads(plan.threads)
    {
        const int id = omp_get_thread_num(), size = omp_get_num_threads();
        Cursor weights = {args.weights};
        auto run = [&](const Team& who, long i) {
            Arena at = {teams + (who.size > 1 || shared ? 0 : id) * team};
            Maps maps;
            for (float** map : {&maps.x, &maps.spare, &maps.u, &maps.dw, &maps.dw_d}) *map = at.take(plan.map);
            maps.hidden = at.at;
            Arena mine = {threads + id * plan.thread()};
            maps.own = mine.take(plan.own), maps.strip = mine.take(plan.strip);
            maps.words = mine.take(plan.words), maps.rounded = mine.take(plan.rounded);
            return run_stages(who, plan, {args.pictures + i * chans * height * width, chans, height, width}, {args.weights}, maps,
                              pooled + i * width4, args, i);
        };
        const long each = shared ? 0 : count / size * size;
        for (long i = id; i < each; i += size) weights = run({0, 1, nullptr}, i);
        Team{id, size, &barrier}.wait();
        for (long i = each; i < count; i++) weights = run({id, size, &barrier}, i);
        if (plan.logits) head({id, size, &barrier}, plan, count, weights, pooled, logits, args.logits);
    }
}

}  // namespace
}  // namespace jvan

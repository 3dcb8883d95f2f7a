// What jvan/inference/fused/plan.py lays down for the operator, and the order of the weights in jvan/inference/fused/packing.py.
#pragma once

# include "gemm.h"

#include <atomic>
#include <initializer_list>
#include <thread>

namespace jvan {
namespace {

constexpr int STAGES = 4;

struct Stage {
    int chans, depth, hidden, kernel, stride;
    int height, width;  // of the map that the stage makes
    int ring;           // blocks of hidden channels that go through the feed-forward row by row; 0: whole maps
    int chunk;          // blocks of hidden channels at a time where whole maps do
    int by_channels;    // how threads share a picture: by channels, or by rows
    int wanted;         // the map is an output

    int blocks() const { return (chans + BLOCK - 1) / BLOCK; }
    int hidden_blocks() const { return (hidden + BLOCK - 1) / BLOCK; }
    long pixels() const { return long(height) * width; }
    long block() const { return pixels() * BLOCK; }
};

struct Plan {
    int threads;
    int logits;         // an output
    int classes;        // 0: no head
    int dw, dw_d;       // sides of the attention's depthwise kernels; 0: left out
    int dilation, pw;   // pw: 0 where that layer is left out
    int gate;           // an After, how the attention's mask meets its input
    int norm_eps_bits;  // of a float
    int pairs;  // the products' weights are pairs of bfloat16, but for the stem's and the head's
    // Floats of scratch: a map, a team's hidden map; a thread's hidden rows, patches, rounded rows, rounded map or row.
    int map, hidden, own, strip, words, rounded;
    Stage stages[STAGES];

    After gelu() const { return pairs ? ROUGH_GELU : GELU; }
    long panel(int depth) const { return long(depth) * BLOCK / (pairs ? 2 : 1); }
    long thread() const { return long(own) + strip + words + rounded; }
    float norm_eps() const {
        float value;
        std::memcpy(&value, &norm_eps_bits, sizeof value);
        return value;
    }
};
static_assert(sizeof(Plan) == (16 + 11 * STAGES) * sizeof(int32_t), "the plan arrives as an array of int32");

// Reads the packed weights in the order in which they were packed.
struct Cursor {
    const float* at;
    const float* take(long floats) {
        const float* from = at;
        at += (floats + 15) / 16 * 16;
        return from;
    }
};

// Where threads wait for one another. OpenMP's own barrier spins: on a machine with other work it may hold the processor that
// the thread it waits for needs.
class Barrier {
    std::atomic<int> waiting{0}, round{0};

public:
    void wait(int threads) {
        const int before = round.load();
        if (waiting.fetch_add(1) + 1 == threads) {
            waiting.store(0);
            round.store(before + 1);
            return;
        }
        for (int spins = 0; round.load(std::memory_order_acquire) == before; spins++)
            if (spins > 20000) std::this_thread::yield();
    }
};

// The threads that work on one picture, and this one's place among them.
struct Team {
    int id, size;
    Barrier* barrier;
    void wait() const {
        if (size > 1) barrier->wait(size);
    }
    long begin(long count) const { return count * id / size; }
    long end(long count) const { return count * (id + 1) / size; }
};

}  // namespace
}  // namespace jvan

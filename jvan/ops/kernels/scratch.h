// Scratch memory that threads keep, and how work is cut evenly.
#pragma once

# include "vector.h"

#include <algorithm>
#include <omp.h>
#include <vector>

namespace jvan {
namespace {

// Buffers that are kept from call to call: fresh pages cost more than most arithmetic on them. A kernel names its own in an
// enum class that ends with COUNT, `Shared` for what all threads read and `Own` for what each has for itself.
template <class Slot>
struct Scratch {
    struct Buffer {
        std::vector<float> memory;
        float* data = nullptr;
    } buffers[int(Slot::COUNT)];

    float* get(Slot slot, int64_t floats) {
        Buffer& b = buffers[int(slot)];
        if (int64_t(b.memory.size()) < floats + 16) {
            b.memory.clear();
            b.memory.resize(floats + 16);
            b.data = b.memory.data() + (64 - reinterpret_cast<uintptr_t>(b.memory.data()) % 64) % 64 / sizeof(float);
        }
        return b.data;
    }
    float* zeros(Slot slot, int64_t floats) {
        float* data = get(slot, floats);
        std::fill(data, data + floats, 0.0f);
        return data;
    }
};

// Cuts `count` into pieces of at most `most`, evenly: 49 rows are 10 + 10 + 10 + 10 + 9, not 4 × 12 + 1.
template <class F>
JVAN_INLINE void evenly(int64_t count, int64_t most, F f) {
    const int64_t pieces = (count + most - 1) / most;
    for (int64_t i = 0, begin = 0; i < pieces; i++) {
        const int64_t end = count * (i + 1) / pieces;
        f(begin, int(end - begin));
        begin = end;
    }
}

}  // namespace
}  // namespace jvan

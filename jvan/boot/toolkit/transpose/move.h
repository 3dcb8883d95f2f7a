// The kernels of a transposition, and which one moves what in how many blocks. The tests run this text on the host, by
// ops/cuda/emulator.h.
#pragma once
#include <cstdint>

#include "permute.h"

namespace jvan {

// Blocks of some multiple of TILE threads; each goes on to further tiles.
template <class Element>
__global__ void move_tiles(Permutation p, const Element* __restrict__ input, Element* __restrict__ output) {
    __shared__ Element tile[TILE][TILE + 1];  // a column more, so that a column of it lies in 32 different banks
    const int column = threadIdx.x % TILE, row = threadIdx.x / TILE, rows = blockDim.x / TILE;
    long long x, y, from, to;
    for (long long index = blockIdx.x; index < p.tiles(); index += gridDim.x) {
        p.locate(index, x, y, from, to);
        take(p, input, tile, x, y, from, column, row, rows);
        __syncthreads();
        give(p, output, tile, x, y, to, column, row, rows);
        __syncthreads();
    }
}

template <class Element>
__global__ void move_rows(Permutation p, const Element* __restrict__ input, Element* __restrict__ output) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long to = (long long)blockIdx.x * blockDim.x + threadIdx.x; to < p.elements; to += step)
        output[to] = input[p.source(to)];
}

const long long BLOCKS = 1 << 20;  // of a grid, at most; each goes on to further tiles

// Moves the elements by launch(kernel, blocks, threads, arguments of the kernel …).
template <class Element, class Launch>
void move_elements(const Permutation& p, const void* input, void* output, int threads, long long most, Launch launch) {
    const long long wanted = p.rows ? (p.elements + threads - 1) / threads : p.tiles();
    launch(p.rows ? move_rows<Element> : move_tiles<Element>, wanted < most ? wanted : most, threads, p, (const Element*)input,
           (Element*)output);
}

// The same for elements of p.bytes bytes; none where there are none.
template <class Launch>
void move(const Permutation& p, const void* input, void* output, int threads, long long most, Launch launch) {
    if (p.elements == 0) return;
    switch (p.bytes) {
        case 1: return move_elements<uint8_t>(p, input, output, threads, most, launch);
        case 2: return move_elements<uint16_t>(p, input, output, threads, most, launch);
        case 4: return move_elements<uint32_t>(p, input, output, threads, most, launch);
        default: return move_elements<uint64_t>(p, input, output, threads, most, launch);
    }
}

}  // namespace jvan

// The kernels of a transposition. The tests run this text on the host, by ops/cuda/emulator.h.
#pragma once
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

}  // namespace jvan

// The arithmetic of a transposition of any rank, for the host (tests) and the device.
//
// Axes that stay neighbours are one axis. What remains is a two-dimensional transposition between the input's fastest
// axis and the output's, repeated over all others: a tile of it goes through shared memory, so that both sides are
// read and written along their fastest axis. Where both are the same axis, whole rows move and no tile is needed.
#pragma once
#ifndef __CUDACC__
#define __host__
#define __device__
#endif

namespace jvan {

const int AXES = 16, TILE = 32;

struct Axis {
    long long size, from, to;  // strides in the input and in the output, in elements
};

struct Permutation {
    Axis fast_in, fast_out;  // the input's and the output's fastest axis; of size 1 the second, if they are the same
    Axis others[AXES];       // in the output's order
    int count, bytes;
    bool rows;               // one fastest axis for both
    long long elements;

    // Whether `sizes` and `order` describe a transposition that this can do.
    bool set(int rank, const int* sizes, const int* order, int element_bytes) {
        Axis axes[AXES];
        int kept = 0;
        if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8) return false;
        if (rank < 1 || rank > AXES || !is_permutation(rank, order)) return false;
        elements = 1;
        bytes = element_bytes;
        for (int out = 0; out < rank; out++) {
            long long from = 1;
            for (int in = 0; in < order[out]; in++) from *= sizes[in];
            const int size = sizes[order[out]];
            if (kept && axes[kept - 1].from * axes[kept - 1].size == from) axes[kept - 1].size *= size;
            else if (size != 1) axes[kept++] = {size, from, elements};
            elements *= size;
        }
        arrange(axes, kept);
        return true;
    }

    __host__ __device__ long long tiles() const {
        long long total = across(fast_in) * across(fast_out);
        for (int i = 0; i < count; i++) total *= others[i].size;
        return total;
    }

    // Where a tile begins: its coordinates on the two fastest axes, and the offsets that the others give.
    __host__ __device__ void locate(long long tile, long long& x, long long& y, long long& from, long long& to) const {
        x = tile % across(fast_in) * TILE;
        tile /= across(fast_in);
        y = tile % across(fast_out) * TILE;
        tile /= across(fast_out);
        from = to = 0;
        for (int i = 0; i < count; i++) {
            const long long at = tile % others[i].size;
            tile /= others[i].size;
            from += at * others[i].from;
            to += at * others[i].to;
        }
    }

    // The input's element that belongs at this place of the output, for transpositions of whole rows.
    __host__ __device__ long long source(long long element) const {
        long long from = element % fast_in.size;
        element /= fast_in.size;
        for (int i = 0; i < count; i++) {
            from += element % others[i].size * others[i].from;
            element /= others[i].size;
        }
        return from;
    }

private:
    static bool is_permutation(int rank, const int* order) {
        unsigned seen = 0;
        for (int i = 0; i < rank; i++) {
            if (order[i] < 0 || order[i] >= rank) return false;
            seen |= 1u << order[i];
        }
        return seen == (1u << rank) - 1;
    }

    void arrange(const Axis* axes, int kept) {  // in the output's order
        int fastest = 0;
        for (int i = 1; i < kept; i++)
            if (axes[i].from < axes[fastest].from) fastest = i;
        const Axis one = {1, 0, 0};
        fast_in = kept ? axes[fastest] : one;
        rows = fastest == 0;
        fast_out = rows ? one : axes[0];
        count = 0;
        for (int i = 1; i < kept; i++)
            if (i != fastest) others[count++] = axes[i];
    }

    __host__ __device__ static long long across(const Axis& axis) { return (axis.size + TILE - 1) / TILE; }
};

// A thread's part of a tile, every step-th row: in along the input's fastest axis, out along the output's.
template <class Element>
__host__ __device__ void take(const Permutation& p, const Element* input, Element (*tile)[TILE + 1], long long x,
                              long long y, long long from, int column, int row, int step) {
    for (; row < TILE; row += step)
        if (x + column < p.fast_in.size && y + row < p.fast_out.size)
            tile[row][column] = input[from + (x + column) * p.fast_in.from + (y + row) * p.fast_out.from];
}

template <class Element>
__host__ __device__ void give(const Permutation& p, Element* output, Element (*tile)[TILE + 1], long long x,
                              long long y, long long to, int column, int row, int step) {
    for (; row < TILE; row += step)
        if (x + row < p.fast_in.size && y + column < p.fast_out.size)
            output[to + (x + row) * p.fast_in.to + (y + column) * p.fast_out.to] = tile[column][row];
}

}  // namespace jvan

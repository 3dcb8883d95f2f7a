// Sums over many rows in two steps and a fixed order, so that a run repeats bit for bit: each block writes the sum of its
// rows, then these are added.
#pragma once
# include "device.cuh"

namespace jvan {

// Where the sums go: those of the first `chans` columns to one place, what follows to another.
template <class W>
struct Results {
  W *first, *second;
  int chans;
  __device__ void put(int column, float value) const {
    (column < chans ? first + column : second + column - chans)[0] = from_float<W>(value);
  }
};

// Adds `rows` rows of a shared array (row, column) to its first, half of them at a time: few steps that wait for each other.
template <class V> __device__ void add_rows(V* kept, int rows, int columns) {
  while (rows > 1) {
    const int half = (rows + 1) / 2;
    __syncthreads();
    for (int i = threadIdx.x; i < (rows - half) * columns; i += blockDim.x) kept[i] += kept[half * columns + i];
    rows = half;
  }
  __syncthreads();
}

const int REDUCE_THREADS = 256;

// Columns of a block; of many rows fewer columns, 32 bytes of memory, so that more threads share them out.
inline int columns_of_block(int rows) { return rows > 128 ? 8 : 32; }

template <class Put>
__global__ void __launch_bounds__(REDUCE_THREADS) add_partials_kernel(const float* partials, int rows, int columns, int lanes, Put results) {
  JVAN_DYNAMIC_SHARED(shared);
  float* const sums = reinterpret_cast<float*>(shared);
  const int shares = REDUCE_THREADS / lanes, lane = threadIdx.x % lanes, column = int(blockIdx.x) * lanes + lane;
  float sum = 0;
  if (column < columns)
#pragma unroll 8
    for (int row = threadIdx.x / lanes; row < rows; row += shares) sum += partials[int64_t(row) * columns + column];
  sums[threadIdx.x] = sum;
  add_rows(sums, shares, lanes);
  if (threadIdx.x < lanes && column < columns) results.put(column, sums[lane]);
}

template <class Put>
void add_partials(const float* partials, int rows, int columns, Put results) {
  const int lanes = columns_of_block(rows);
  launch("add_partials", add_partials_kernel<Put>, divide_up(columns, lanes), REDUCE_THREADS, REDUCE_THREADS * 4, partials, rows, columns,
         lanes, results);
}

}  // namespace jvan

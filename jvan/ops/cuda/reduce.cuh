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

// 32 columns a block, 8 threads a column.
template <class Put>
__global__ void __launch_bounds__(256) add_partials_kernel(const float* partials, int rows, int columns, Put results) {
  JVAN_DYNAMIC_SHARED(shared);
  float* const sums = reinterpret_cast<float*>(shared);
  const int lane = threadIdx.x % 32, share = threadIdx.x / 32, column = int(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (column < columns)
#pragma unroll 4
    for (int row = share; row < rows; row += 8) sum += partials[int64_t(row) * columns + column];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (share || column >= columns) return;
#pragma unroll
  for (int i = 1; i < 8; i++) sum += sums[i * 32 + lane];
  results.put(column, sum);
}

template <class Put>
void add_partials(const float* partials, int rows, int columns, Put results) {
  launch("add_partials", add_partials_kernel<Put>, divide_up(columns, 32), 256, 256 * 4, partials, rows, columns, results);
}

}  // namespace jvan

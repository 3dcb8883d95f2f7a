// Passes over maps (rows, chans), element by element, with the channels' sums over all rows that a parameter's gradient is.
#pragma once
# include "reduce.cuh"

namespace jvan {

// The rows are shared out among `slices` blocks, and those again for each column block: as many channels as a row of threads takes.
struct Rows {
  int64_t rows;
  int chans, slices;
};

const int ROW_THREADS = 256;

// Threads that lie side by side: at most 64, and few of them idle in the last column block.
__host__ __device__ inline int lanes_of(int columns) { return divide_up(columns, divide_up(columns, 64)); }

// Where a thread works: N neighbouring channels, and every step-th row.

template <int N>
struct Place {
  int channel, left;     // the first of a thread's channels, and how many there are from it on
  int64_t row, step;
  int thread_row, thread_rows, lanes;

  __device__ explicit Place(const Rows& r) {
    const int columns = divide_up(r.chans, N);
    lanes = lanes_of(columns);
    thread_rows = blockDim.x / lanes;
    const int column_blocks = divide_up(columns, lanes), lane = threadIdx.x % lanes;
    channel = (int(blockIdx.x % column_blocks) * lanes + lane) * N;
    left = r.chans - channel;
    thread_row = threadIdx.x / lanes;
    row = thread_row < thread_rows && left > 0 ? int64_t(blockIdx.x / column_blocks) * thread_rows + thread_row : r.rows;
    step = int64_t(r.slices) * thread_rows;
  }
};

template <int N> inline int64_t blocks_of(const Rows& r) {
  const int columns = divide_up(r.chans, N);
  return int64_t(divide_up(columns, lanes_of(columns))) * r.slices;
}

// Writes a block's sums of COUNT values for each of its channels: partials (slice, value, channel).
template <int N, int COUNT>
__device__ void write_partials(float* partials, const Rows& r, const Place<N>& place, const Floats<N> (&sums)[COUNT]) {
  JVAN_DYNAMIC_SHARED(shared);
  float* const kept = reinterpret_cast<float*>(shared);  // (value, thread row, lane, channel)
  const int row = place.lanes * N, values = place.thread_rows * row, column_blocks = divide_up(divide_up(r.chans, N), place.lanes);
#pragma unroll
  for (int v = 0; v < COUNT; v++)
#pragma unroll
    for (int c = 0; c < N; c++)
      if (place.thread_row < place.thread_rows)
        kept[v * values + place.thread_row * row + int(threadIdx.x % place.lanes) * N + c] = sums[v][c];
  __syncthreads();
  const int first = int(blockIdx.x % column_blocks) * row, slice = blockIdx.x / column_blocks;
  for (int i = threadIdx.x; i < COUNT * row; i += blockDim.x) {
    const int v = i / row, c = i - v * row;
    float sum = 0;
    for (int t = 0; t < place.thread_rows; t++) sum += kept[v * values + t * row + c];
    if (first + c < r.chans) partials[(int64_t(slice) * COUNT + v) * r.chans + first + c] = sum;
  }
}

template <int N, class T> __device__ Floats<N> read(const T* from, int left, bool vector) {
  return vector ? load<N>(from) : load_some<N>(from, left);
}
template <int N, class T> __device__ void write(T* to, const Floats<N>& values, int left, bool vector) {
  vector ? store<N>(to, values) : store_some<N>(to, values, left);
}

// Bytes of shared memory that write_partials needs.
inline int64_t partial_bytes(int width, int count) { return int64_t(ROW_THREADS) * width * count * 4; }

// Runs a kernel template <T, W, N, VECTOR>: 128 bits a thread where `vector`, one element elsewhere.
#define JVAN_LAUNCH_ROWS(kernel, vector, count, rows, ...)                                                                      \
  do {                                                                                                                         \
    if (vector)                                                                                                                \
      launch(#kernel, kernel<T, W, Width<T>::value, true>, blocks_of<Width<T>::value>(rows), ROW_THREADS,                      \
             partial_bytes(Width<T>::value, count), __VA_ARGS__);                                                              \
    else                                                                                                                       \
      launch(#kernel, kernel<T, W, 1, false>, blocks_of<1>(rows), ROW_THREADS, partial_bytes(1, count), __VA_ARGS__);          \
  } while (false)

}  // namespace jvan

// Gradients of a depthwise convolution's weight and bias: dw[i, j] = Σ dy[h, w] · x[h + i·dilation - before, …].
#pragma once
# include "depthwise.cuh"
# include "reduce.cuh"

namespace jvan {

// Adds a strip's products for one row of taps; `at` is where the input of the first output's first tap lies.
template <int K, int P, class T>
__device__ void add_products(Floats<LANE> (&sums)[K + 1], const T* at, int column, const Window& in, int dilation, int chunk,
                             const Floats<LANE> (&dy)[P], const Floats<LANE>& input_bias) {
#pragma unroll
  for (int q = 0; q < P + K - 1; q++, column += dilation, at += dilation * chunk) {
    const Floats<LANE> x = column >= in.left && column < in.right ? input<K>(at, input_bias) : zeros<LANE>();
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (q - p < 0 || q - p >= K) continue;
#pragma unroll
      for (int c = 0; c < LANE; c++) sums[q - p < 0 || q - p >= K ? 0 : q - p][c] += dy[p][c] * x[c];
    }
  }
}

// A block's tiles are number g, g + groups, … of its channels; both maps' tiles lie in shared memory. `sums` (slot, tap, channel)
// in shared memory takes each slot's part in turn; the bias is one tap more.
template <class T>
struct Tiles {
  T *x, *dy;
  float* sums;
  int slots;
};

template <class T>
__device__ Tiles<T> tiles_in(unsigned char* shared, const Depthwise& d, int slots) {
  Tiles<T> tiles;
  tiles.sums = reinterpret_cast<float*>(shared);
  tiles.x = reinterpret_cast<T*>(tiles.sums + slots * (d.size * d.size + 1) * d.chunk());
  tiles.dy = tiles.x + d.rows() * d.pitch() * d.chunk();
  tiles.slots = slots;
  return tiles;
}

// One thread's sums over a tile: of tap row i and four channels, over the slot's strips.
template <int K, class T>
__device__ void add_tile(Floats<LANE> (&sums)[K + 1], const Tiles<T>& tiles, const Depthwise& d, const Window& out, const Window& in,
                         int i, int slot, int channel, const Floats<LANE>& input_bias) {
  const int P = Strip<K>::outputs, chunk = d.chunk(), rows = out.bottom - out.top;
  const int tasks = rows * strips_across(out.right - out.left, d.dilation, P);
  for (int task = slot; task < tasks; task += tiles.slots) {
    const int strip = task / rows, row = out.top + task - strip * rows;
    const int column = out.left + strip % d.dilation + strip / d.dilation * (P * d.dilation);
    const int from_row = row - d.before + i * d.dilation, from_column = column - d.before;
    const bool inside = from_row >= in.top && from_row < in.bottom;
    if (!inside && i) continue;
    Floats<LANE> dy[P];
#pragma unroll
    for (int p = 0; p < P; p++) {
      const int c = column + p * d.dilation;
      dy[p] = c < out.right ? load<LANE>(tiles.dy + ((row - out.top) * d.pitch() + c - out.left) * chunk + channel) : zeros<LANE>();
#pragma unroll
      for (int k = 0; k < LANE; k++) sums[K][k] += dy[p][k];
    }
    if (!inside) continue;
    const T* at = tiles.x + ((from_row - in.top) * d.pitch() + from_column - in.left) * chunk + channel;
    add_products<K, P>(sums, at, from_column, in, d.dilation, chunk, dy, input_bias);
  }
}

// For any size: one thread takes all taps of its strips, one output each, and adds them in shared memory.
template <class T>
__device__ void add_tile_of_any_size(const Tiles<T>& tiles, const Depthwise& d, const Window& out, const Window& in, int slot, int channel,
                                     const Floats<LANE>& input_bias) {
  const int chunk = d.chunk(), columns = out.right - out.left, pixels = (out.bottom - out.top) * columns;
  const int area = d.size * d.size;
  float* const sums = tiles.sums + slot * (area + 1) * chunk + channel;
  for (int tap = 0; tap <= area; tap++) {
    const int up = d.before - tap / d.size * d.dilation, back = d.before - tap % d.size * d.dilation;
    Floats<LANE> sum = zeros<LANE>();
    for (int pixel = slot; pixel < pixels; pixel += tiles.slots) {
      const int row = pixel / columns, column = pixel - row * columns;
      const int from_row = out.top + row - up, from_column = out.left + column - back;
      if (tap < area && !in.has(from_row, from_column)) continue;
      const Floats<LANE> dy = load<LANE>(tiles.dy + (row * d.pitch() + column) * chunk + channel);
      const T* at = tiles.x + ((from_row - in.top) * d.pitch() + from_column - in.left) * chunk + channel;
      Floats<LANE> x;
      if (tap < area) x = input<0>(at, input_bias);
#pragma unroll
      for (int c = 0; c < LANE; c++) sum[c] += tap < area ? dy[c] * x[c] : dy[c];
    }
#pragma unroll
    for (int c = 0; c < LANE; c++) sums[tap * chunk + c] += sum[c];
  }
}

template <class T, class W, int K, bool VECTOR>
__global__ void __launch_bounds__(256)
depthwise_weights_kernel(const T* x, const W* input_bias, const T* dy, float* partials, Depthwise d, int groups, int slots) {
  JVAN_DYNAMIC_SHARED(shared);
  const int chunk = d.chunk(), chunks = d.chunks(), area = d.size * d.size, lanes = 1 << d.shift;
  const int first = int(blockIdx.x % chunks) * chunk, group = int(blockIdx.x / chunks);
  const Tiles<T> tiles = tiles_in<T>(shared, d, slots);
  const int channel = int(threadIdx.x % lanes) * LANE;
  const int slot = K ? int(threadIdx.x) / lanes % slots : int(threadIdx.x) / lanes, i = int(threadIdx.x) / lanes / slots;
  const bool works = K ? i < K : slot < slots;
  const int left = d.chans - first - channel;
  const Floats<LANE> added = input_bias && left > 0 ? load_some<LANE>(input_bias + first + channel, left) : zeros<LANE>();
  Floats<LANE> sums[K + 1];
#pragma unroll
  for (int j = 0; j <= K; j++) sums[j] = zeros<LANE>();
  for (int j = threadIdx.x; j < slots * (area + 1) * chunk; j += blockDim.x) tiles.sums[j] = 0;

  const int across = d.tiles_across(), places = d.tiles_down() * across, count = d.batch * places;
  for (int index = group; index < count; index += groups) {
    const int picture = index / places, place = index - picture * places;
    const Window out = outputs_of(d, place / across, place % across), in = inputs_of(d, out);
    const int64_t origin = int64_t(picture) * d.height * d.width * d.chans;
    __syncthreads();  // the tiles before have been used
    read_tile<T, VECTOR>(tiles.x, x + origin, d, in, first);
    read_tile<T, VECTOR>(tiles.dy, dy + origin, d, out, first);
    wait_for_copies();
    __syncthreads();
    if (works && K) add_tile<K>(sums, tiles, d, out, in, i, slot, channel, added);
    if (works && !K) add_tile_of_any_size(tiles, d, out, in, slot, channel, added);
  }
  __syncthreads();
  if (works && K) {
    float* const to = tiles.sums + slot * (area + 1) * chunk + channel;
#pragma unroll
    for (int j = 0; j <= K; j++)
      if (j < K || i == 0) store<LANE>(to + (j < K ? i * K + j : area) * chunk, sums[j]);
  }
  __syncthreads();
  for (int j = threadIdx.x; j < (area + 1) * chunk; j += blockDim.x) {
    const int tap = j / chunk, c = j - tap * chunk;
    float sum = 0;
    for (int s = 0; s < slots; s++) sum += tiles.sums[s * (area + 1) * chunk + j];
    if (first + c < d.chans) partials[(int64_t(group) * (area + 1) + tap) * d.chans + first + c] = sum;
  }
}

template <class W>
struct WeightResults {
  W *weight, *bias;
  int area, chans;
  __device__ void put(int column, float value) const {
    const int tap = column / chans, channel = column - tap * chans;
    (tap < area ? weight[channel * area + tap] : bias[channel]) = from_float<W>(value);
  }
};

template <class T, class W, int K, bool VECTOR>
void launch_depthwise_weights(const T* x, const W* input_bias, const T* dy, W* dweight, W* dbias, float* partials, int groups, Depthwise d) {
  const int area = d.size * d.size;
  if (input_bias && !InputBias<K>::value) throw std::invalid_argument("a depthwise kernel of this size adds no bias to its input");
  const auto slots_of = [](const Depthwise& d) {
    const int slots = 256 / ((K ? K : 1) << d.shift);
    return slots < 1 ? 1 : !K && slots > 4 ? 4 : slots;
  };
  const auto bytes = [&](const Depthwise& d) {
    const int64_t pixels = (d.rows() + d.tile_height) * d.pitch();
    return d.chunk() * (pixels * int64_t(sizeof(T)) + slots_of(d) * (area + 1) * int64_t(4));
  };
  d.threads = 256;
  const bool chosen = !d.tile_height;
  choose_tile(d, sizeof(T), Strip<K>::outputs, 1 << 20, shared_limit() / 2 - 1024, bytes);
  if (chosen && !is_worth_a_tile(d, bytes))
    launch_depthwise_weights_direct(x, input_bias, dy, partials, groups, d);
  else
    launch("depthwise_weights", depthwise_weights_kernel<T, W, K, VECTOR>, int64_t(groups) * d.chunks(), d.threads, bytes(d), x, input_bias, dy,
           partials, d, groups, slots_of(d));
  add_partials(partials, groups, (area + 1) * d.chans, WeightResults<W>{dweight, dbias, area, d.chans});
}

template <class T, class W, bool VECTOR, class... A>
void launch_depthwise_weights_of_size(const Depthwise& d, A... arguments) {
  const auto run = d.size == 3   ? launch_depthwise_weights<T, W, 3, VECTOR>
                   : d.size == 5 ? launch_depthwise_weights<T, W, 5, VECTOR>
                   : d.size == 7 ? launch_depthwise_weights<T, W, 7, VECTOR>
                                 : launch_depthwise_weights<T, W, 0, VECTOR>;
  run(arguments...);
}

// dweight (chans, 1, size, size), dbias (chans); partials (groups, size² + 1, chans) is room to work in.
template <class T, class W>
void depthwise_weights(const T* x, const W* input_bias, const T* dy, W* dweight, W* dbias, float* partials, int groups, Depthwise d) {
  d.before = d.reach() / 2;
  if (aligned<T>(d.chans, x, dy))
    launch_depthwise_weights_of_size<T, W, true>(d, x, input_bias, dy, dweight, dbias, partials, groups, d);
  else
    launch_depthwise_weights_of_size<T, W, false>(d, x, input_bias, dy, dweight, dbias, partials, groups, d);
}

}  // namespace jvan

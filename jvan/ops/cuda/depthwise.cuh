// Depthwise convolution forward, and the gradient of its input, which is the same with reversed taps; the bias and
// GELU of its output where they are wanted.
#pragma once
# include "depthwise_direct.cuh"

namespace jvan {

// Outputs of a strip. VAN's maps have 56, 28, 14 and 7 columns; a 7×7 is dilated by 3 there, and 19, 10, 5 and 3 columns
// belong together.
template <int K> struct Strip { static const int outputs = K == 0 ? 1 : K == 7 ? 5 : 7; };

// Whether a kernel of this size adds a bias to its input, as the feed-forward's 3×3 does: it saves a pass over its widest map.
template <int K> struct InputBias { static const bool value = K == 3 || K == 0; };

// The four channels of a pixel in a tile, with the input's bias where the kernel has one.
template <int K, class T> __device__ Floats<LANE> input(const T* at, const Floats<LANE>& input_bias) {
  Floats<LANE> x = load<LANE>(at);
#pragma unroll
  for (int c = 0; c < LANE; c++)
    if (InputBias<K>::value) x[c] += input_bias[c];
  return x;
}

// Adds one row of taps to the strip: of K taps, or of any number where K is 0. `at` is where the input of the first
// output's first tap lies, `column` its column; inputs outside of [left, right) are 0.
template <int K, int P, class T>
__device__ void add_taps(Floats<LANE> (&sums)[P], const T* at, int column, const Window& in, int dilation, int chunk,
                         const float* taps, int size, const Floats<LANE>& input_bias) {
  if (K == 0) {
    for (int j = 0; j < size; j++, column += dilation, at += dilation * chunk) {
      if (column < in.left || column >= in.right) continue;
      const Floats<LANE> tap = load<LANE>(taps + j * chunk), x = input<K>(at, input_bias);
#pragma unroll
      for (int c = 0; c < LANE; c++) sums[0][c] += tap[c] * x[c];
    }
    return;
  }
  const int count = K == 0 ? 1 : K;
  Floats<LANE> row[count];
#pragma unroll
  for (int j = 0; j < count; j++) row[j] = load<LANE>(taps + j * chunk);
#pragma unroll
  for (int q = 0; q < P + count - 1; q++, column += dilation, at += dilation * chunk) {
    const Floats<LANE> x = column >= in.left && column < in.right ? input<K>(at, input_bias) : zeros<LANE>();
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (q - p < 0 || q - p >= count) continue;
#pragma unroll
      for (int c = 0; c < LANE; c++) sums[p][c] += row[q - p < 0 || q - p >= count ? 0 : q - p][c] * x[c];
    }
  }
}

// The taps of a block's channels as (tap, channel), in the order in which the inputs come.
template <class W>
__device__ void read_taps(float* taps, const W* weight, const Depthwise& d, int first, bool reverse) {
  const int area = d.size * d.size, chunk = d.chunk();
  for (int i = threadIdx.x; i < area * chunk; i += blockDim.x) {
    const int channel = i / area, tap = i - channel * area;
    const float value = first + channel < d.chans ? to_float(weight[int64_t(first) * area + i]) : 0;
    taps[(reverse ? area - 1 - tap : tap) * chunk + channel] = value;
  }
}

template <class T, class W, int K, bool VECTOR>
__global__ void __launch_bounds__(256)
depthwise_kernel(const T* x, const W* input_bias, const W* weight, const W* bias, T* y, T* before_gelu, Depthwise d, bool reverse, bool with_gelu) {
  const int P = Strip<K>::outputs;
  JVAN_DYNAMIC_SHARED(shared);
  const int chunk = d.chunk(), chunks = d.chunks(), across = d.tiles_across(), down = d.tiles_down();
  const int first = int(blockIdx.x % chunks) * chunk, tile_index = int(blockIdx.x / chunks);
  const int picture = tile_index / (across * down), place = tile_index - picture * across * down;
  const Window out = outputs_of(d, place / across, place % across), in = inputs_of(d, out);
  const int64_t origin = int64_t(picture) * d.height * d.width * d.chans;

  float* const taps = reinterpret_cast<float*>(shared);
  T* const tile = reinterpret_cast<T*>(taps + d.size * d.size * chunk);
  read_tile<T, VECTOR>(tile, x + origin, d, in, first);
  read_taps(taps, weight, d, first, reverse);
  wait_for_copies();
  __syncthreads();

  const int rows = out.bottom - out.top, strips = strips_across(out.right - out.left, d.dilation, P);
  const int tasks = (rows * strips) << d.shift;
  for (int task = threadIdx.x; task < tasks; task += blockDim.x) {
    // Neighbours take channels, then rows: whatever the dilation, their inputs lie in different banks.
    const int channel = (task & ((1 << d.shift) - 1)) * LANE, strip = (task >> d.shift) / rows;
    const int row = out.top + (task >> d.shift) - strip * rows;
    const int residue = strip % d.dilation, column = out.left + residue + strip / d.dilation * (P * d.dilation);
    const int left = d.chans - first - channel;  // channels from here on
    if (column >= out.right || left <= 0) continue;
    Floats<LANE> sums[P];
    const Floats<LANE> added = input_bias ? load_some<LANE>(input_bias + first + channel, left) : zeros<LANE>();
    const Floats<LANE> start = bias ? load_some<LANE>(bias + first + channel, left) : zeros<LANE>();
#pragma unroll
    for (int p = 0; p < P; p++) sums[p] = start;
#pragma unroll 1
    for (int i = 0; i < d.size; i++) {
      const int from_row = row - d.before + i * d.dilation, from_column = column - d.before;
      if (from_row < in.top || from_row >= in.bottom) continue;
      const T* at = tile + ((from_row - in.top) * d.pitch() + from_column - in.left) * chunk + channel;
      add_taps<K, P>(sums, at, from_column, in, d.dilation, chunk, taps + i * d.size * chunk + channel, d.size, added);
    }
    const int64_t to = origin + (int64_t(row) * d.width + column) * d.chans + first + channel;
#pragma unroll
    for (int p = 0; p < P; p++) {
      if (column + p * d.dilation >= out.right) continue;
      const int64_t place = to + int64_t(p) * d.dilation * d.chans;
      if (before_gelu) VECTOR ? store<LANE>(before_gelu + place, sums[p]) : store_some<LANE>(before_gelu + place, sums[p], left);
#pragma unroll
      for (int c = 0; c < LANE; c++) sums[p][c] = with_gelu ? gelu(sums[p][c]) : sums[p][c];
      VECTOR ? store<LANE>(y + place, sums[p]) : store_some<LANE>(y + place, sums[p], left);
    }
  }
}

template <class T, class W, int K, bool VECTOR>
void launch_depthwise(const T* x, const W* input_bias, const W* weight, const W* bias, T* y, T* before_gelu, Depthwise d, bool reverse, bool with_gelu) {
  const auto bytes = [](const Depthwise& d) {
    return int64_t(d.chunk()) * (d.rows() * d.pitch() * int64_t(sizeof(T)) + d.size * d.size * 4);
  };
  if (input_bias && !InputBias<K>::value) throw std::invalid_argument("a depthwise kernel of this size adds no bias to its input");
  const bool chosen = !d.tile_height;
  // Three blocks a multiprocessor, which keeps 1 KiB for each: one computes while the others read.
  choose_tile(d, sizeof(T), Strip<K>::outputs, K ? 8 / int(sizeof(T)) : 16, shared_limit() / 3 - 1024, bytes);
  if (chosen && !is_worth_a_tile(d, bytes))
    return launch_depthwise_direct(x, input_bias, weight, bias, y, before_gelu, d, reverse, with_gelu);
  const int64_t blocks = int64_t(d.batch) * d.tiles_down() * d.tiles_across() * d.chunks();
  launch("depthwise", depthwise_kernel<T, W, K, VECTOR>, blocks, d.threads, bytes(d), x, input_bias, weight, bias, y,
         before_gelu, d, reverse, with_gelu);
}

template <class T, class W, bool VECTOR, class... A>
void launch_depthwise_of_size(const Depthwise& d, A... arguments) {
  const auto run = d.size == 3   ? launch_depthwise<T, W, 3, VECTOR>
                   : d.size == 5 ? launch_depthwise<T, W, 5, VECTOR>
                   : d.size == 7 ? launch_depthwise<T, W, 7, VECTOR>
                                 : launch_depthwise<T, W, 0, VECTOR>;
  run(arguments...);
}

// y = depthwise(x + input_bias) + bias, the padding being 0. x, y (batch, height, width, chans); weight (chans, 1, size, size); biases (chans) or null. `reverse` turns the taps round, and
// the padding with them. With GELU, `before_gelu`, unless null, receives what y is the GELU of.
template <class T, class W>
void depthwise(const T* x, const W* input_bias, const W* weight, const W* bias, T* y, T* before_gelu, Depthwise d, bool reverse,
               bool with_gelu) {
  d.before = reverse ? d.reach() - d.reach() / 2 : d.reach() / 2;
  if (aligned<T>(d.chans, x, y, before_gelu))
    launch_depthwise_of_size<T, W, true>(d, x, input_bias, weight, bias, y, before_gelu, d, reverse, with_gelu);
  else
    launch_depthwise_of_size<T, W, false>(d, x, input_bias, weight, bias, y, before_gelu, d, reverse, with_gelu);
}

}  // namespace jvan

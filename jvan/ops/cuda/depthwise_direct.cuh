// Depthwise convolutions of any size and reach, read from the map without a tile: for those of which no tile fits into a
// block's shared memory, or one that is read for too few outputs. Every tap is a load, which the caches answer; the sums
// are in the same order each time.
#pragma once
# include "tile.cuh"

namespace jvan {

// Whether a block of this cut runs on the device, and reads no more pixels than its outputs' taps name one by one.
template <class Bytes> bool is_worth_a_tile(const Depthwise& d, Bytes bytes) {
  const int64_t pixels = int64_t(d.rows()) * d.columns(), taps = int64_t(d.size) * d.size;
  return bytes(d) <= shared_limit() && pixels <= taps * d.tile_height * d.tile_width;
}

const int DIRECT_THREADS = 256;

// A thread an output; neighbours are channels. Indices have 64 bits: beside its taps, a thread's few divisions are nothing.
template <class T, class W>
__global__ void __launch_bounds__(DIRECT_THREADS)
depthwise_direct_kernel(const T* x, const W* input_bias, const W* weight, const W* bias, T* y, T* before_gelu, Depthwise d, bool reverse,
                        bool with_gelu, int64_t count) {
  const int64_t index = int64_t(blockIdx.x) * DIRECT_THREADS + threadIdx.x;
  if (index >= count) return;
  const int64_t pixel = index / d.chans, line = pixel / d.width, first = line / d.height * d.height;
  const int channel = int(index - pixel * d.chans), column = int(pixel - line * d.width), row = int(line - first);
  const int area = d.size * d.size;
  const T* const picture = x + first * d.width * d.chans + channel;
  const W* const taps = weight + int64_t(channel) * area;
  const float added = input_bias ? to_float(input_bias[channel]) : 0;
  float sum = bias ? to_float(bias[channel]) : 0;
  for (int i = 0; i < d.size; i++) {
    const int64_t h = row - d.before + int64_t(i) * d.dilation;
    if (h < 0 || h >= d.height) continue;
    for (int j = 0; j < d.size; j++) {
      const int64_t w = column - d.before + int64_t(j) * d.dilation;
      if (w < 0 || w >= d.width) continue;
      const int tap = i * d.size + j;
      sum += to_float(taps[reverse ? area - 1 - tap : tap]) * (to_float(picture[(h * d.width + w) * d.chans]) + added);
    }
  }
  if (before_gelu) before_gelu[index] = from_float<T>(sum);
  y[index] = from_float<T>(with_gelu ? gelu(sum) : sum);
}

template <class T, class W>
void launch_depthwise_direct(const T* x, const W* input_bias, const W* weight, const W* bias, T* y, T* before_gelu, Depthwise d, bool reverse,
                             bool with_gelu) {
  const int64_t count = int64_t(d.batch) * d.height * d.width * d.chans;
  launch("depthwise_direct", depthwise_direct_kernel<T, W>, divide_up(count, DIRECT_THREADS), DIRECT_THREADS, 0, x, input_bias, weight, bias, y,
         before_gelu, d, reverse, with_gelu, count);
}

// A thread a tap and a channel, neighbours being channels; tap `area` is the bias. Group g takes the batch's rows g, g + groups, …
template <class T, class W>
__global__ void __launch_bounds__(DIRECT_THREADS)
depthwise_weights_direct_kernel(const T* x, const W* input_bias, const T* dy, float* partials, Depthwise d, int groups, int blocks) {
  const int area = d.size * d.size, group = int(blockIdx.x) / blocks;
  const int index = (int(blockIdx.x) - group * blocks) * DIRECT_THREADS + int(threadIdx.x);
  if (index >= (area + 1) * d.chans) return;
  const int tap = index / d.chans, channel = index - tap * d.chans;
  const int64_t up = d.before - int64_t(tap / d.size) * d.dilation, back = d.before - int64_t(tap % d.size) * d.dilation;
  const float added = input_bias ? to_float(input_bias[channel]) : 0;
  float sum = 0;
  for (int64_t line = group; line < int64_t(d.batch) * d.height; line += groups) {
    const int64_t first = line / d.height * d.height, h = line - first - up;
    if (tap < area && (h < 0 || h >= d.height)) continue;
    const T* const outputs = dy + line * d.width * d.chans + channel;
    const T* const inputs = x + (first + h) * d.width * d.chans + channel;
    for (int column = 0; column < d.width; column++) {
      const int64_t w = column - back;
      if (tap < area && (w < 0 || w >= d.width)) continue;
      sum += to_float(outputs[int64_t(column) * d.chans]) * (tap < area ? to_float(inputs[w * d.chans]) + added : 1);
    }
  }
  partials[int64_t(group) * (area + 1) * d.chans + index] = sum;
}

template <class T, class W>
void launch_depthwise_weights_direct(const T* x, const W* input_bias, const T* dy, float* partials, int groups, const Depthwise& d) {
  const int blocks = divide_up((int64_t(d.size) * d.size + 1) * d.chans, DIRECT_THREADS);
  launch("depthwise_weights_direct", depthwise_weights_direct_kernel<T, W>, int64_t(groups) * blocks, DIRECT_THREADS, 0, x, input_bias, dy,
         partials, d, groups, blocks);
}

}  // namespace jvan

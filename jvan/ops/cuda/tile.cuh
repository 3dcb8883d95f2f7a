// A tile of a channels-last map with its halo in shared memory: how a depthwise convolution is cut, and how a tile is read.
#pragma once
# include "device.cuh"

namespace jvan {

const int LANE = 4;  // channels that a thread computes at once

// A depthwise convolution of stride 1 that keeps the map's size, and its cut into blocks.
struct Depthwise {
  int batch, height, width, chans, size, dilation;
  int before;                 // pixels that the taps reach up and to the left; they reach the rest of `reach` the other way
  int tile_height, tile_width;  // outputs of a block
  int shift;                  // a block takes LANE << shift channels
  int threads;

  __host__ __device__ int reach() const { return dilation * (size - 1); }
  __host__ __device__ int chunk() const { return LANE << shift; }
  __host__ __device__ int chunks() const { return divide_up(chans, chunk()); }
  __host__ __device__ int tiles_down() const { return divide_up(height, tile_height); }
  __host__ __device__ int tiles_across() const { return divide_up(width, tile_width); }
  // Pixels of the map that a tile needs, at most; the pitch is odd, so that rows one below the other lie in different banks.
  __host__ __device__ int rows() const { return tile_height + reach() < height ? tile_height + reach() : height; }
  __host__ __device__ int columns() const { return tile_width + reach() < width ? tile_width + reach() : width; }
  __host__ __device__ int pitch() const { return columns() | 1; }
};

// A rectangle of the map: rows [top, bottom), columns [left, right).
struct Window {
  int top, bottom, left, right;

  __device__ bool has(int row, int column) const { return row >= top && row < bottom && column >= left && column < right; }
};

// The outputs of tile (down, across), and what they need of the map, borders cut off.
__device__ inline Window outputs_of(const Depthwise& d, int down, int across) {
  Window w;
  w.top = down * d.tile_height;
  w.left = across * d.tile_width;
  w.bottom = w.top + d.tile_height < d.height ? w.top + d.tile_height : d.height;
  w.right = w.left + d.tile_width < d.width ? w.left + d.tile_width : d.width;
  return w;
}

__device__ inline Window inputs_of(const Depthwise& d, const Window& outputs) {
  const int after = d.reach() - d.before;
  Window w;
  w.top = outputs.top > d.before ? outputs.top - d.before : 0;
  w.left = outputs.left > d.before ? outputs.left - d.before : 0;
  w.bottom = outputs.bottom + after < d.height ? outputs.bottom + after : d.height;
  w.right = outputs.right + after < d.width ? outputs.right + after : d.width;
  return w;
}

// A window of one picture (height, width, chans), from channel `first` on, into shared memory (row, column, chunk); a
// warp takes a row. Channels past the last become 0. Call wait_for_copies and __syncthreads before the tile is read.
template <class T, bool VECTOR>
__device__ void read_tile(T* tile, const T* picture, const Depthwise& d, const Window& w, int first) {
  const int chunk = d.chunk(), lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
  const int step = blockDim.x < 32 ? int(blockDim.x) : 32;
  const int wide = VECTOR ? Width<T>::value : 1;
  const int pieces = (w.right - w.left) * (chunk / wide), per_pixel = chunk / wide;
  for (int row = w.top + int(threadIdx.x / 32); row < w.bottom; row += warps) {
    const T* from = picture + (int64_t(row) * d.width + w.left) * d.chans + first;
    T* to = tile + (row - w.top) * d.pitch() * chunk;
    for (int piece = lane; piece < pieces; piece += step) {
      const int column = piece / per_pixel, channel = (piece & (per_pixel - 1)) * wide;  // a power of two
      T* const there = to + column * chunk + channel;
      const T* const here = from + int64_t(column) * d.chans + channel;
      if (VECTOR) {
        if (first + channel < d.chans)
          copy_16_bytes(there, here);
        else
          *reinterpret_cast<Pack<float, 4>*>(there) = Pack<float, 4>{{0, 0, 0, 0}};
      } else {
        *there = first + channel < d.chans ? *here : from_float<T>(0);
      }
    }
  }
}

// Strips: P outputs in a row, `dilation` apart, so that their taps read the same inputs. Strip s of a tile of some width
// begins at column s % dilation + s / dilation * P * dilation; some may have no output at all.
__host__ __device__ inline int strips_across(int width, int dilation, int outputs) {
  return dilation * divide_up(divide_up(width, dilation), outputs);
}

// Sizes of a tile that fit into `budget` bytes of shared memory if they can, `bytes(d)` being what a block needs, and give each
// of at most 256 threads at most `passes` strips. What is 0 in `d` is chosen: few rows twice, then many blocks.
template <class Bytes>
void choose_tile(Depthwise& d, int item, int outputs, int passes, int64_t budget, Bytes bytes) {
  const bool free_height = !d.tile_height, free_width = !d.tile_width, free_shift = d.shift < 0;
  if (free_width) d.tile_width = divide_up(d.width, divide_up(d.width, 64));
  if (free_shift) d.shift = item == 4 ? 1 : 2;  // 32 bytes a pixel: a sector of memory
  const auto tasks = [&] {
    return int64_t(d.tile_height) * (1 << d.shift) * strips_across(d.tile_width, d.dilation, outputs);
  };
  if (free_height) {
    int cuts = 1;
    const auto fits = [&] { return tasks() <= 256 * passes && bytes(d) <= budget; };
    for (d.tile_height = d.height; d.tile_height > 1 && !fits();) d.tile_height = divide_up(d.height, ++cuts);
    const auto blocks = [&] { return int64_t(d.batch) * d.chunks() * d.tiles_down() * d.tiles_across(); };
    const auto rows_read = [&](int height) { return divide_up(d.height, height) * (height + d.reach() * 0.75); };
    for (int next = divide_up(d.height, cuts + 1); blocks() < 1024 && next > 1 && rows_read(next) <= 1.4 * d.height;
         next = divide_up(d.height, ++cuts + 1))
      d.tile_height = next;
  }
  while (free_width && d.tile_width > 1 && bytes(d) > budget) d.tile_width = divide_up(d.tile_width, 2);
  // A wide reach on a small device: half a sector a pixel, which reads slowly, is better than a block that cannot run.
  while (free_shift && bytes(d) > shared_limit() && d.chunk() * item > 16) d.shift--;
  // Small maps: more channels a block, up to 256 bytes a pixel.
  while (free_shift && 2 * tasks() <= 192 && d.chunk() < d.chans && d.chunk() * item < 256) {
    d.shift++;
    if (bytes(d) > budget) {
      d.shift--;
      break;
    }
  }
  if (!d.threads) {
    const int rounds = divide_up(tasks(), 256);
    d.threads = divide_up(divide_up(tasks(), rounds), 32) * 32;
  }
}

}  // namespace jvan

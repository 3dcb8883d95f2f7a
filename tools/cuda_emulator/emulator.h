// CUDA's words for a host compiler: a block's threads are fibers that take turns at barriers. Slow and exact: it
// shows that a kernel's indices, barriers and sums are right, and nothing about its speed.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define JVAN_DYNAMIC_SHARED(name) unsigned char* const name = jvan::emulator().shared.data() + jvan::GUARD

namespace jvan {

struct Index { unsigned x; };

struct half_t { uint16_t bits; };
struct bfloat16_t { uint16_t bits; };

inline float bits_to_float(uint32_t bits) { float v; std::memcpy(&v, &bits, 4); return v; }
inline uint32_t float_to_bits(float v) { uint32_t bits; std::memcpy(&bits, &v, 4); return bits; }

inline float __bfloat162float(bfloat16_t v) { return bits_to_float(uint32_t(v.bits) << 16); }
inline bfloat16_t __float2bfloat16_rn(float v) {
  const uint32_t bits = float_to_bits(v);
  if (v != v) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __half2float(half_t v) {
  const int exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                    : exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24);
  return v.bits >> 15 ? -size : size;
}
inline half_t __float2half_rn(float v) {
  const uint16_t sign = uint16_t(float_to_bits(v) >> 16 & 0x8000);
  if (v != v) return {0x7fff};
  const float size = std::fabs(v);
  if (size >= 65520) return {uint16_t(sign | 0x7c00)};
  if (size < 6.103515625e-05f) return {uint16_t(sign | uint16_t(std::nearbyint(std::ldexp(size, 24))))};
  const uint32_t bits = float_to_bits(size);
  return {uint16_t(sign | uint16_t((bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13))};
}

constexpr size_t GUARD = 4096;  // bytes on both sides of a block's shared memory, which no kernel may change

// One block at a time; `shared` is filled with NaN between blocks, `backwards` lets the last thread go first.
struct Emulator {
  std::vector<unsigned char> shared;
  bool backwards = false;
  std::string fault;
  int64_t limit = 227 * 1024;
  unsigned block = 0, blocks = 0, threads = 0, thread = 0;
  std::function<void()> body;

  struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
  };
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  unsigned arrived = 0, generation = 0;
  float lanes[1024];
  unsigned warp_arrived[32], warp_generation[32];

  void pause() { swapcontext(&fibers[thread].context, &scheduler); }

  void barrier() {
    const unsigned mine = generation;
    if (++arrived == threads) {
      arrived = 0;
      generation++;
      return;
    }
    while (generation == mine) pause();
  }

  void warp_barrier() {
    const unsigned warp = thread / 32, mine = warp_generation[warp];
    const unsigned size = std::min(32u, threads - warp * 32);
    if (++warp_arrived[warp] == size) {
      warp_arrived[warp] = 0;
      warp_generation[warp]++;
      return;
    }
    while (warp_generation[warp] == mine) pause();
  }

  float exchange(float value, unsigned from) {
    lanes[thread] = value;
    warp_barrier();
    const float theirs = lanes[from];
    warp_barrier();
    return theirs;
  }

  static void start() {
    Emulator& e = instance();
    e.body();
    e.fibers[e.thread].done = true;
    e.pause();
  }

  void run_block() {
    std::memset(shared.data() + GUARD, 0xff, shared.size() - 2 * GUARD);
    if (fibers.size() < threads) fibers.resize(threads);
    for (unsigned i = 0; i < threads; i++) {
      Fiber& fiber = fibers[i];
      if (fiber.stack.empty()) fiber.stack.resize(32 * 1024);
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data();
      fiber.context.uc_stack.ss_size = fiber.stack.size();
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, start, 0);
    }
    arrived = 0;
    std::memset(warp_arrived, 0, sizeof warp_arrived);
    for (unsigned left = threads; left;)
      for (unsigned i = 0; i < threads; i++) {
        thread = backwards ? threads - 1 - i : i;
        if (fibers[thread].done) continue;
        swapcontext(&scheduler, &fibers[thread].context);
        left -= fibers[thread].done;
      }
  }

  bool guards_hold() const {
    const auto holds = [](unsigned char byte) { return byte == 0x5a; };
    return std::all_of(shared.begin(), shared.begin() + GUARD, holds) && std::all_of(shared.end() - GUARD, shared.end(), holds);
  }

  static Emulator& instance() {
    static Emulator only;
    return only;
  }
};

inline Emulator& emulator() { return Emulator::instance(); }
// An exception cannot leave a fiber: the launch throws it.
inline void must_be_aligned(const void* pointer, unsigned bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes) emulator().fault = "an access that is not aligned";
}
inline int64_t shared_limit() { return emulator().limit; }

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), int64_t blocks, int threads, int64_t shared, A... args) {
  Emulator& e = emulator();
  if (shared > e.limit) throw std::runtime_error(std::string(name) + ": too much shared memory");
  if (threads > 1024 || threads < 1) throw std::runtime_error(std::string(name) + ": threads");
  e.shared.assign(size_t(shared) + 2 * GUARD, 0x5a);
  e.threads = unsigned(threads);
  e.blocks = unsigned(blocks);
  e.body = [=] { kernel(args...); };
  for (int64_t block = 0; block < blocks; block++) {
    e.block = unsigned(block);
    e.run_block();
  }
  if (!e.guards_hold()) e.fault = "wrote past its shared memory";
  if (e.fault.empty()) return;
  const std::string fault = std::string(name) + ": " + e.fault;
  e.fault.clear();
  throw std::runtime_error(fault);
}

enum { cudaMemcpyDeviceToDevice };
inline int cudaMemcpyAsync(void* to, const void* from, size_t size, int, int) { return std::memcpy(to, from, size), 0; }
inline void check(int, const char*) {}

inline float rsqrtf(float v) { return 1 / std::sqrt(v); }
inline void __syncthreads() { emulator().barrier(); }
inline float __shfl_xor_sync(unsigned, float value, int mask) { return emulator().exchange(value, emulator().thread ^ unsigned(mask)); }

}  // namespace jvan

#define threadIdx (jvan::Index{jvan::emulator().thread})
#define blockIdx (jvan::Index{jvan::emulator().block})
#define blockDim (jvan::Index{jvan::emulator().threads})
#define gridDim (jvan::Index{jvan::emulator().blocks})

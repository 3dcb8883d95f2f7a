// One step of AdamW for one parameter, in float32: see ops.adamw.
#pragma once
# include "device.cuh"

namespace jvan {

// 1 - learning rate · weight decay; the moments' β and 1 - β; 1 / √(1 - β₂ᵗ); ε; learning rate / (1 - β₁ᵗ).
struct Rates {
  float decay, beta1, rest1, beta2, rest2, root, eps, rate;
};

__global__ void __launch_bounds__(256)
adamw_kernel(const float* value, const float* gradient, const float* mean, const float* square, float* new_value, float* new_mean,
             float* new_square, int64_t count, bool vectors, Rates r) {
  const int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (at >= count) return;
  const int left = count - at < 4 ? int(count - at) : 4;
  const auto get = [&](const float* from) { return vectors && left == 4 ? load<4>(from + at) : load_some<4>(from + at, left); };
  Floats<4> v = get(value), m = get(mean), s = get(square);
  const Floats<4> g = get(gradient);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    m[i] = m[i] * r.beta1 + g[i] * r.rest1;
    s[i] = s[i] * r.beta2 + g[i] * g[i] * r.rest2;
    v[i] = v[i] * r.decay - m[i] / (sqrtf(s[i]) * r.root + r.eps) * r.rate;
  }
  const auto put = [&](float* to, const Floats<4>& values) {
    vectors && left == 4 ? store<4>(to + at, values) : store_some<4>(to + at, values, left);
  };
  put(new_value, v);
  put(new_mean, m);
  put(new_square, s);
}

inline void adamw(const float* value, const float* gradient, const float* mean, const float* square, float* new_value, float* new_mean,
                  float* new_square, int64_t count, Rates r) {
  const bool vectors = aligned<float>(4, value, gradient, mean, square, new_value, new_mean, new_square);
  launch("adamw", adamw_kernel, divide_up(count, 1024), 256, 0, value, gradient, mean, square, new_value, new_mean, new_square, count,
         vectors, r);
}

}  // namespace jvan

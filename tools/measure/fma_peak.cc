// How many multiply-adds of float32 this processor makes a second, with registers alone: the ceiling of docs/performance.md.
//
//     g++ -O3 -march=native -fopenmp tools/measure/fma_peak.cc -o fma_peak && ./fma_peak
#include <chrono>
#include <cstdio>
#include <omp.h>

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
typedef float vec __attribute__((vector_size(BYTES)));
constexpr int LANES = BYTES / sizeof(float), SUMS = 12;  // more than latency · units of any processor so far

// `rounds` times SUMS independent multiply-adds.
__attribute__((noinline)) float run(long rounds, float start) {
    const vec a = vec{} + 0.999f, b = vec{} + start;
    vec sum[SUMS];
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++) sum[i] = b * float(i + 1);  // equal ones would be made one
    for (long n = 0; n < rounds; n++)
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;
    float total = 0;
    for (int i = 0; i < SUMS; i++) total += sum[i][0];
    return total;
}

int main() {
    const long rounds = 30000000;
    double best = 0;
    for (int n = 0; n < 7; n++) {
        const auto begun = std::chrono::steady_clock::now();
        float total = 0;
#pragma omp parallel reduction(+ : total)
        total += run(rounds, 0.001f);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        const double gflops = 2e-9 * rounds * SUMS * LANES * omp_get_max_threads() / seconds;
        if (total != 0 && gflops > best) best = gflops;
    }
    std::printf("%d threads, vectors of %d bytes: %.0f GFLOP/s\n", omp_get_max_threads(), BYTES, best);
}

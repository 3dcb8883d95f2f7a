// The two depthwise convolutions of large-kernel attention, one after the other, a slice at a time: what lies between them
// stays in the second-level cache, and each map is read or written once.
#pragma once

# include "depthwise_backward.h"
# include "depthwise_op.h"

namespace jvan {
namespace {

// u → a_local = local(u), a = remote(a_local)
inline void depthwise_pair(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t local_size, int64_t remote_size,
                           int64_t dilation, const float* u, const float* w_local, const float* b_local,
                           const float* w_remote, const float* b_remote, float* a_local, float* a) {
    static Scratch shared;
    const Slices all(batch, height, width, chans);
    const Kernel local = take_kernel(all, w_local, b_local, local_size, 1, false, shared, 0);
    const Kernel remote = take_kernel(all, w_remote, b_remote, remote_size, dilation, false, shared, 1);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < all.tasks(); task++) {
        static thread_local Scratch own;
        const Slice slice = all.slice(task);
        const int64_t block = all.block(task);
        const RowRange rows = all.rows(task), middle = remote.map.under(rows), under = local.map.under(middle);
        float *first = own.get(0, all.floats(under)), *second = all.place(own.get(1, all.floats(middle)), middle);
        local.run(all.take(u, slice, under, first), block, slice, middle, second);
        all.put(second, slice, rows, a_local);
        remote.run(second, block, slice, rows, all.place(first, rows));
        all.put(all.place(first, rows), slice, rows, a);
    }
}

// u, a_local and the gradient da of a → du, and the gradients of both convolutions' weights and biases
inline void depthwise_pair_backward(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t local_size,
                                    int64_t remote_size, int64_t dilation, const float* u, const float* a_local,
                                    const float* da, const float* w_local, const float* w_remote, float* du,
                                    float* dw_local, float* db_local, float* dw_remote, float* db_remote) {
    static Scratch shared;
    const Slices all(batch, height, width, chans);
    const DepthwiseMap local = depthwise_map(height, width, local_size, 1);
    const DepthwiseMap remote = depthwise_map(height, width, remote_size, dilation);
    const Kernel local_back = take_kernel(all, w_local, nullptr, local_size, 1, true, shared, 0);
    const Kernel remote_back = take_kernel(all, w_remote, nullptr, remote_size, dilation, true, shared, 1);
    Partial local_part, remote_part;
#pragma omp parallel
    {
        static thread_local Scratch own;
        const TapSums local_sums(all, local, own, 0), remote_sums(all, remote, own, 2);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < all.tasks(); task++) {
            const Slice slice = all.slice(task);
            const int64_t block = all.block(task);
            const RowRange rows = all.rows(task), middle = local_back.map.under(rows), under = remote_back.map.under(middle);
            const RowRange of_u = local.under(rows), of_local = remote.under(rows);
            float *first = own.get(4, all.floats(under)), *second = own.get(5, std::max(all.floats(of_u), all.floats(of_local)));
            float* d_local = all.place(own.get(6, all.floats(middle)), middle);
            const float* from = all.take(da, slice, under, first);
            remote_sums.add(all.take(a_local, slice, of_local, second), from, block, rows);
            remote_back.run(from, block, slice, middle, d_local);
            local_sums.add(all.take(u, slice, of_u, second), d_local, block, rows);
            local_back.run(d_local, block, slice, rows, all.place(first, rows));
            all.put(all.place(first, rows), slice, rows, du);
        }
        local_sums.sum(local_part, dw_local, db_local);
        remote_sums.sum(remote_part, dw_remote, db_remote);
    }
}

}  // namespace
}  // namespace jvan

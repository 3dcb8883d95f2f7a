// The two depthwise convolutions of large-kernel attention, one after the other, a slice at a time: what lies between them
// stays in the second-level cache, and each map is read or written once. The backward pass makes the first one's output
// again, which costs no more time than to keep it.
#pragma once

# include "depthwise_backward.h"
# include "depthwise_op.h"

namespace jvan {
namespace {

// u → a = remote(local(u))
inline void depthwise_pair(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t local_size, int64_t remote_size,
                           int64_t dilation, const float* u, const float* w_local, const float* b_local,
                           const float* w_remote, const float* b_remote, float* a) {
    enum class Own { U_AND_RESULT, MIDDLE, COUNT };
    enum class Shared { LOCAL, REMOTE, COUNT };
    static Scratch<Shared> shared;
    const Slices all(batch, height, width, chans);
    const Kernel local = take_kernel(all, w_local, b_local, local_size, 1, false, shared, Shared::LOCAL);
    const Kernel remote = take_kernel(all, w_remote, b_remote, remote_size, dilation, false, shared, Shared::REMOTE);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < all.tasks(); task++) {
        static thread_local Scratch<Own> own;
        const Slice slice = all.slice(task);
        const int64_t block = all.block(task);
        const RowRange rows = all.rows(task), middle = remote.map.under(rows), under = local.map.under(middle);
        float* memory = own.get(Own::U_AND_RESULT, all.floats(under));
        float* a_local = all.place(own.get(Own::MIDDLE, all.floats(middle)), middle);
        local.run(all.take(u, slice, under, memory), block, slice, middle, a_local);
        float* result = all.place(memory, rows);
        remote.run(a_local, block, slice, rows, result);
        all.put(result, slice, rows, a);
    }
}

// u and the gradient da of a → du, and the gradients of both convolutions' weights and biases
inline void depthwise_pair_backward(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t local_size,
                                    int64_t remote_size, int64_t dilation, const float* u, const float* da,
                                    const float* w_local, const float* b_local, const float* w_remote, float* du,
                                    float* dw_local, float* db_local, float* dw_remote, float* db_remote) {
    enum class Own { LOCAL_SUMS, REMOTE_SUMS, U, DA, MIDDLE_AND_RESULT, D_MIDDLE, COUNT };
    enum class Shared { LOCAL, LOCAL_BACK, REMOTE_BACK, COUNT };
    static Scratch<Shared> shared;
    const Slices all(batch, height, width, chans);
    const Kernel local = take_kernel(all, w_local, b_local, local_size, 1, false, shared, Shared::LOCAL);
    const Kernel local_back = take_kernel(all, w_local, nullptr, local_size, 1, true, shared, Shared::LOCAL_BACK);
    const Kernel remote_back = take_kernel(all, w_remote, nullptr, remote_size, dilation, true, shared, Shared::REMOTE_BACK);
    const DepthwiseMap remote = depthwise_map(height, width, remote_size, dilation);
    Totals locals(omp_get_max_threads()), remotes(omp_get_max_threads());
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const TapSums local_sums(all, local.map, own, Own::LOCAL_SUMS), remote_sums(all, remote, own, Own::REMOTE_SUMS);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < all.tasks(); task++) {
            const Slice slice = all.slice(task);
            const int64_t block = all.block(task);
            const RowRange rows = all.rows(task), under = remote.under(rows), of_u = local.map.under(under);
            const RowRange of_d = local_back.map.under(rows), of_da = remote_back.map.under(of_d);
            const float* uu = all.take(u, slice, of_u, own.get(Own::U, all.floats(of_u)));
            const float* top = all.take(da, slice, of_da, own.get(Own::DA, all.floats(of_da)));
            float* a_local = all.place(own.get(Own::MIDDLE_AND_RESULT, all.floats(under)), under);
            float* d_local = all.place(own.get(Own::D_MIDDLE, all.floats(of_d)), of_d);
            local.run(uu, block, slice, under, a_local);
            remote_sums.add(a_local, top, block, rows);
            remote_back.run(top, block, slice, of_d, d_local);
            local_sums.add(uu, d_local, block, rows);
            float* result = all.place(own.get(Own::MIDDLE_AND_RESULT, all.floats(rows)), rows);
            local_back.run(d_local, block, slice, rows, result);
            all.put(result, slice, rows, du);
        }
        local_sums.sum(locals, dw_local, db_local);
        remote_sums.sum(remotes, dw_remote, db_remote);
    }
}

}  // namespace
}  // namespace jvan

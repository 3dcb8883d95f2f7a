// The two depthwise convolutions of large-kernel attention, one after the other, a slice at a time: what lies between them
// stays in the second-level cache, and each map is read or written once. The backward pass makes the first one's output
// again, which costs no more time than to keep it.
#pragma once

# include "depthwise_backward.h"
# include "depthwise_op.h"

namespace jvan {
namespace {

// a = dw_d(dw(u))
struct DepthwisePair {
    Input u, w_dw, b_dw, w_dw_d, b_dw_d;
    Output a;
};

inline void depthwise_pair(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t dw_size, int64_t dw_d_size,
                           int64_t dilation, const DepthwisePair& args) {
    enum class Own { U_AND_RESULT, MIDDLE, COUNT };
    enum class Shared { DW, DW_D, COUNT };
    static Scratch<Shared> shared;
    const Slices all(batch, height, width, chans);
    const Kernel dw = take_kernel(all, args.w_dw, args.b_dw, dw_size, 1, false, shared, Shared::DW);
    const Kernel dw_d = take_kernel(all, args.w_dw_d, args.b_dw_d, dw_d_size, dilation, false, shared, Shared::DW_D);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < all.tasks(); task++) {
        static thread_local Scratch<Own> own;
        const Slice slice = all.slice(task);
        const int64_t block = all.block(task);
        const RowRange rows = all.rows(task), middle = dw_d.map.under(rows), under = dw.map.under(middle);
        float* memory = own.get(Own::U_AND_RESULT, all.floats(under));
        float* middle_map = all.place(own.get(Own::MIDDLE, all.floats(middle)), middle);
        dw.run(all.take(args.u, slice, under, memory), block, slice, middle, middle_map);
        float* result = all.place(memory, rows);
        dw_d.run(middle_map, block, slice, rows, result);
        all.put(result, slice, rows, args.a);
    }
}

struct DepthwisePairBackward {
    Input u, da, w_dw, b_dw, w_dw_d;
    Output du, dw_dw, db_dw, dw_dw_d, db_dw_d;
};

inline void depthwise_pair_backward(int64_t batch, int64_t height, int64_t width, int64_t chans, int64_t dw_size,
                                    int64_t dw_d_size, int64_t dilation, const DepthwisePairBackward& args) {
    enum class Own { DW_SUMS, DW_D_SUMS, U, DA, MIDDLE_AND_RESULT, D_MIDDLE, COUNT };
    enum class Shared { DW, DW_BACK, DW_D_BACK, COUNT };
    static Scratch<Shared> shared;
    const Slices all(batch, height, width, chans);
    const Kernel dw = take_kernel(all, args.w_dw, args.b_dw, dw_size, 1, false, shared, Shared::DW);
    const Kernel dw_back = take_kernel(all, args.w_dw, nullptr, dw_size, 1, true, shared, Shared::DW_BACK);
    const Kernel dw_d_back = take_kernel(all, args.w_dw_d, nullptr, dw_d_size, dilation, true, shared, Shared::DW_D_BACK);
    const DepthwiseMap dw_d = depthwise_map(height, width, dw_d_size, dilation);
    Totals dw_totals(omp_get_max_threads()), dw_d_totals(omp_get_max_threads());
#pragma omp parallel
    {
        static thread_local Scratch<Own> own;
        const TapSums dw_sums(all, dw.map, own, Own::DW_SUMS), dw_d_sums(all, dw_d, own, Own::DW_D_SUMS);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < all.tasks(); task++) {
            const Slice slice = all.slice(task);
            const int64_t block = all.block(task);
            const RowRange rows = all.rows(task), under = dw_d.under(rows), of_u = dw.map.under(under);
            const RowRange of_d = dw_back.map.under(rows), of_da = dw_d_back.map.under(of_d);
            const float* uu = all.take(args.u, slice, of_u, own.get(Own::U, all.floats(of_u)));
            const float* top = all.take(args.da, slice, of_da, own.get(Own::DA, all.floats(of_da)));
            float* middle_map = all.place(own.get(Own::MIDDLE_AND_RESULT, all.floats(under)), under);
            float* d_middle = all.place(own.get(Own::D_MIDDLE, all.floats(of_d)), of_d);
            dw.run(uu, block, slice, under, middle_map);
            dw_d_sums.add(middle_map, top, block, rows);
            dw_d_back.run(top, block, slice, of_d, d_middle);
            dw_sums.add(uu, d_middle, block, rows);
            float* result = all.place(own.get(Own::MIDDLE_AND_RESULT, all.floats(rows)), rows);
            dw_back.run(d_middle, block, slice, rows, result);
            all.put(result, slice, rows, args.du);
        }
        dw_sums.sum(dw_totals, args.dw_dw, args.db_dw);
        dw_d_sums.sum(dw_d_totals, args.dw_dw_d, args.db_dw_d);
    }
}

}  // namespace
}  // namespace jvan

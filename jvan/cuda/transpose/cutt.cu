// Transposition on the GPU behind cuTT's functions: Jittor would download cuTT, and without it moves data to the CPU and
// back wherever a permutation changes the last axis.
#include "cutt.h"

#include <cstdint>
#include <vector>

#include "CudaUtils.h"
#include "move.h"

void (*custom_cuda_malloc)(void**, size_t, size_t&) = nullptr;
void (*custom_cuda_free)(void*, size_t, size_t&) = nullptr;

namespace {

using jvan::Permutation;

const long long BLOCKS = 1 << 20;  // of a grid; each goes on to further tiles
const int THREADS = 256;

struct Plan {
    Permutation permutation;
    cudaStream_t stream;
};

unsigned blocks(long long wanted) { return unsigned(wanted < BLOCKS ? wanted : BLOCKS); }

template <class Element>
void launch(const Plan& plan, const void* input, void* output) {
    const Permutation& p = plan.permutation;
    if (p.rows)
        jvan::move_rows<<<blocks((p.elements + THREADS - 1) / THREADS), THREADS, 0, plan.stream>>>(
            p, (const Element*)input, (Element*)output);
    else
        jvan::move_tiles<<<blocks(p.tiles()), THREADS, 0, plan.stream>>>(p, (const Element*)input, (Element*)output);
}

std::vector<Plan>& plans() {
    static auto* kept = new std::vector<Plan>;  // never destroyed: Jittor may transpose while the process ends
    return *kept;
}

}  // namespace

cuttResult cuttPlan(cuttHandle* handle, int rank, int* sizes, int* permutation, size_t bytes, cudaStream_t stream) {
    Plan plan;
    plan.stream = stream;
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) return 1;
    if (!plan.permutation.set(rank, sizes, permutation, int(bytes))) return 1;
    *handle = cuttHandle(plans().size());
    plans().push_back(plan);
    return 0;
}

cuttResult cuttExecute(cuttHandle handle, void* input, void* output) {
    const Plan& plan = plans().at(handle);
    if (plan.permutation.elements == 0) return 0;
    switch (plan.permutation.bytes) {
        case 1: launch<uint8_t>(plan, input, output); break;
        case 2: launch<uint16_t>(plan, input, output); break;
        case 4: launch<uint32_t>(plan, input, output); break;
        default: launch<uint64_t>(plan, input, output);
    }
    return cudaPeekAtLastError() != cudaSuccess;  // a peek leaves the error to Jittor, which ignores what is returned here
}

cuttResult cuttDestroy(cuttHandle) { return 0; }

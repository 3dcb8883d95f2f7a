// Transposition on the GPU behind cuTT's functions: Jittor would download cuTT, and without it moves data to the CPU and
// back wherever a permutation changes the last axis.
#include "cutt.h"

#include <vector>

#include "CudaUtils.h"
#include "move.h"

void (*custom_cuda_malloc)(void**, size_t, size_t&) = nullptr;
void (*custom_cuda_free)(void*, size_t, size_t&) = nullptr;

namespace {

using jvan::Permutation;

const int THREADS = 256;

struct Plan {
    Permutation permutation;
    cudaStream_t stream;
};

struct Launch {
    cudaStream_t stream;

    template <class Element>
    void operator()(void (*kernel)(Permutation, const Element*, Element*), long long blocks, int threads, const Permutation& p,
                    const Element* input, Element* output) const {
        kernel<<<unsigned(blocks), threads, 0, stream>>>(p, input, output);
    }
};

std::vector<Plan>& plans() {
    static auto* kept = new std::vector<Plan>;  // never destroyed: Jittor may transpose while the process ends
    return *kept;
}

}  // namespace

cuttResult cuttPlan(cuttHandle* handle, int rank, int* sizes, int* permutation, size_t bytes, cudaStream_t stream) {
    Plan plan;
    plan.stream = stream;
    if (!plan.permutation.set(rank, sizes, permutation, int(bytes))) return 1;
    *handle = cuttHandle(plans().size());
    plans().push_back(plan);
    return 0;
}

cuttResult cuttExecute(cuttHandle handle, void* input, void* output) {
    const Plan& plan = plans().at(handle);
    jvan::move(plan.permutation, input, output, THREADS, jvan::BLOCKS, Launch{plan.stream});
    return cudaPeekAtLastError() != cudaSuccess;  // a peek leaves the error to Jittor, which ignores what is returned here
}

cuttResult cuttDestroy(cuttHandle) { return 0; }

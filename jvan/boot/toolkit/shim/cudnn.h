// cuDNN 9 without the functions of 7 that only Jittor's recurrent operators call: they compile, and say "not supported".
#pragma once
#include "cudnn_as_it_is.h"
#ifdef __cplusplus
namespace jvan_cudnn {
struct Gone {
    template <class... Arguments>
    cudnnStatus_t operator()(const Arguments&...) const { return CUDNN_STATUS_NOT_SUPPORTED; }
};
}  // namespace jvan_cudnn
static const jvan_cudnn::Gone cudnnSetRNNDescriptor_v6 = {}, cudnnGetRNNParamsSize = {}, cudnnGetRNNWorkspaceSize = {},
                              cudnnGetRNNTrainingReserveSize = {}, cudnnGetRNNLinLayerMatrixParams = {},
                              cudnnGetRNNLinLayerBiasParams = {}, cudnnRNNForwardTraining = {},
                              cudnnRNNForwardInference = {}, cudnnRNNBackwardData = {}, cudnnRNNBackwardWeights = {};
#endif

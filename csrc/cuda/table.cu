#include "cuda/entries.h"

namespace fastnn {

const CudaKernels& cuda_kernels() {
    static constexpr CudaKernels kTable{
        .build_id = FASTNN_BUILD_ID,
        .activation = cuda_activation,
        .activation_backward = cuda_activation_backward,
        .dropout = cuda_dropout,
        .column_sum = cuda_column_sum,
        .batch_norm = cuda_batch_norm,
        .batch_norm_backward = cuda_batch_norm_backward,
        .softmax_cross_entropy = cuda_softmax_cross_entropy,
        .point_loss = cuda_point_loss,
        .gemm = cuda_gemm,
        .update = cuda_update,
    };
    return kTable;
}

}  // namespace fastnn

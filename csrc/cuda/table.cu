#include "cuda/entries.h"

namespace fastnn {

const CudaKernels& cuda_kernels() {
    static constexpr CudaKernels kTable{
        .build_id = FASTNN_BUILD_ID,
        .entries = {cuda_activation,
                    cuda_activation_backward,
                    cuda_dropout,
                    cuda_column_sum,
                    cuda_batch_norm,
                    cuda_batch_norm_backward,
                    cuda_softmax_cross_entropy,
                    cuda_point_loss,
                    cuda_gemm,
                    cuda_gemm_bf16,
                    cuda_gemm_tf32,
                    cuda_gemm_with,
                    cuda_gemm_bf16_with,
                    cuda_gemm_tf32_with,
                    cuda_round_bf16,
                    cuda_update_norm,
                    cuda_update,
                    cuda_gather,
                    cuda_add,
                    cuda_scale_columns,
                    cuda_widen,
                    cuda_step_begin,
                    cuda_step_end},
        .allocate = cuda_allocate,
        .release = cuda_release,
        .borrow = cuda_borrow,
        .give_back = cuda_give_back,
        .to_device = cuda_to_device,
        .to_host = cuda_to_host,
        .wait = cuda_wait,
        .record = cuda_record,
        .replay = cuda_replay,
        .forget = cuda_forget,
        .message = cuda_message,
    };
    return kTable;
}

}  // namespace fastnn

// The kernels of this ISA: all that other rooms see of it. Constant data: reading it runs no code of this
// ISA.
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {

const char* macros();

#define FASTNN_TEXT_(x) #x
#define FASTNN_TEXT(x) FASTNN_TEXT_(x)
#define FASTNN_KERNEL(name) {name##_chunks, name}

extern const Kernels kTable;
constinit const Kernels kTable = {
    .isa = FASTNN_TEXT(FASTNN_NS),
    .macros = macros,
    .gemm = FASTNN_KERNEL(gemm),
    .pack_b = FASTNN_KERNEL(pack_b),
    .gemm_bf16 = FASTNN_KERNEL(gemm_bf16),
    .round_bf16 = FASTNN_KERNEL(round_bf16),
    .multiplies_bf16 = false,
    .gather = FASTNN_KERNEL(gather),
    .column_sum = {FASTNN_KERNEL(column_sum_reduce), FASTNN_KERNEL(column_sum_combine)},
    .column_moments = {FASTNN_KERNEL(column_moments_reduce), FASTNN_KERNEL(column_moments_combine)},
    .scale_columns = FASTNN_KERNEL(scale_columns),
    .activation = FASTNN_KERNEL(activation),
    .activation_backward = FASTNN_KERNEL(activation_backward),
    .add = FASTNN_KERNEL(add),
    .dropout = FASTNN_KERNEL(dropout),
    .batch_norm = {FASTNN_KERNEL(batch_norm_reduce), FASTNN_KERNEL(batch_norm_combine),
                   FASTNN_KERNEL(batch_norm_apply)},
    .batch_norm_backward = {FASTNN_KERNEL(batch_norm_backward_reduce),
                            FASTNN_KERNEL(batch_norm_backward_combine),
                            FASTNN_KERNEL(batch_norm_backward_apply)},
    .softmax_cross_entropy = FASTNN_KERNEL(softmax_cross_entropy),
    .point_loss = FASTNN_KERNEL(point_loss),
    .update = {FASTNN_KERNEL(update_sum), FASTNN_KERNEL(update_units), FASTNN_KERNEL(update_verdict),
               FASTNN_KERNEL(update_apply)},
    .limit = FASTNN_KERNEL(limit),
};

}  // namespace fastnn::FASTNN_NS

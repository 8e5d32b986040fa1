// The entries of this ISA's objects, for table.cpp. Each pair is what core/kernels.h calls a kernel.
#pragma once

#include "core/kernels.h"
#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

#define FASTNN_ENTRY(name, Args)    \
    int name##_chunks(const Args&); \
    void name(const Args&, int chunk, Scratch&)

FASTNN_ENTRY(gemm, GemmArgs);
FASTNN_ENTRY(pack_b, PackArgs);
FASTNN_ENTRY(gemm_bf16, GemmBf16Args);
FASTNN_ENTRY(round_bf16, RoundArgs);
FASTNN_ENTRY(gather, GatherArgs);
FASTNN_ENTRY(column_sum_reduce, ColumnSumArgs);
FASTNN_ENTRY(column_sum_combine, ColumnSumArgs);
FASTNN_ENTRY(column_moments_reduce, ColumnMomentsArgs);
FASTNN_ENTRY(column_moments_combine, ColumnMomentsArgs);
FASTNN_ENTRY(scale_columns, ScaleColumnsArgs);
FASTNN_ENTRY(activation, ActivationArgs);
FASTNN_ENTRY(activation_backward, ActivationBackwardArgs);
FASTNN_ENTRY(add, AddArgs);
FASTNN_ENTRY(dropout, DropoutArgs);
FASTNN_ENTRY(batch_norm_reduce, BatchNormArgs);
FASTNN_ENTRY(batch_norm_combine, BatchNormArgs);
FASTNN_ENTRY(batch_norm_apply, BatchNormArgs);
FASTNN_ENTRY(batch_norm_backward_reduce, BatchNormBackwardArgs);
FASTNN_ENTRY(batch_norm_backward_combine, BatchNormBackwardArgs);
FASTNN_ENTRY(batch_norm_backward_apply, BatchNormBackwardArgs);
FASTNN_ENTRY(softmax_cross_entropy, SoftmaxArgs);
FASTNN_ENTRY(point_loss, PointLossArgs);
FASTNN_ENTRY(update_sum, UpdateArgs);
FASTNN_ENTRY(update_units, UpdateArgs);
FASTNN_ENTRY(update_verdict, UpdateArgs);
FASTNN_ENTRY(update_apply, UpdateArgs);
FASTNN_ENTRY(limit, LimitArgs);

#undef FASTNN_ENTRY

}  // namespace fastnn::FASTNN_NS

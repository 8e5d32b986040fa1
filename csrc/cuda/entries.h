// The operations of this room. Each launches on the stream and returns at once; arrays, partial sums
// included, lie on the device and are as large as the CPU's (core/types.h), and so do the tables of an update
// and what a pointer of the arguments names beside. Their bits are the CPU's: every sum has the order of
// docs/numerics.md, and no float is added atomically.
#pragma once

#include "core/cuda_kernels.h"

namespace fastnn {

int cuda_activation(const ActivationArgs& a, void* stream);
int cuda_activation_backward(const ActivationBackwardArgs& a, void* stream);
int cuda_dropout(const DropoutArgs& a, void* stream);
int cuda_column_sum(const ColumnSumArgs& a, void* stream);
int cuda_batch_norm(const BatchNormArgs& a, void* stream);
// The sums alone.
int cuda_moments(const BatchNormArgs& a, void* stream);
int cuda_gradient_sums(const BatchNormBackwardArgs& a, void* stream);
int cuda_batch_norm_backward(const BatchNormBackwardArgs& a, void* stream);
int cuda_softmax_cross_entropy(const SoftmaxArgs& a, void* stream);
int cuda_point_loss(const PointLossArgs& a, void* stream);
int cuda_gemm(const GemmArgs& a, void* stream);
// On tensor cores, with bits of their own. Before compute capability 8.0 there are none for these numbers,
// which is a status of our own.
int cuda_gemm_bf16(const GemmBf16Args& a, void* stream);
int cuda_gemm_tf32(const GemmTf32Args& a, void* stream);
inline constexpr int kNoTensorCores = -1;
inline constexpr int kLibraryStatus = 1 << 20;  // and the status of cuBLASLt (product_library.h) behind it
int cuda_gemm_with(const With<GemmArgs>& a, void* stream);
int cuda_gemm_small(const With<GemmArgs>& a, void* stream);  // gemm_small.cu
int cuda_gemm_bf16_with(const With<GemmBf16Args>& a, void* stream);
int cuda_gemm_tf32_with(const With<GemmTf32Args>& a, void* stream);
int cuda_round_bf16(const RoundArgs& a, void* stream);
int cuda_update_norm(const UpdateNormArgs& a, void* stream);  // before an update
int cuda_update(const UpdateArgs& a, void* stream);
int cuda_gather(const GatherArgs& a, void* stream);
int cuda_add(const AddArgs& a, void* stream);
int cuda_scale_columns(const ScaleColumnsArgs& a, void* stream);  // shift and offset may be null
int cuda_widen(const WidenArgs& a, void* stream);
int cuda_step_begin(const StepBeginArgs& a, void* stream);
int cuda_step_end(const StepEndArgs& a, void* stream);

// memory.cu
int cuda_allocate(void** memory, Index bytes);
int cuda_release(void* memory);
int cuda_borrow(void** memory, Index bytes, void* stream);
int cuda_give_back(void* memory, void* stream);
int cuda_to_device(void* to, const void* from, Index row_bytes, Index row_stride, Index rows, void* stream);
int cuda_to_host(void* to, const void* from, Index bytes, void* stream);
int cuda_wait(void* stream);
const char* cuda_message(int status);

// graph.cu
int cuda_record(const Turn* turns, Index parts, int (*launch)(void* what, Index part, void* stream),
                void* what, void** graph);
int cuda_replay(void* graph, void* stream);
int cuda_forget(void* graph);

}  // namespace fastnn

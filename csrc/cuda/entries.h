// The operations of this room. Each launches on the stream and returns at once; arrays, partial sums
// included, lie on the device and are as large as the CPU's (core/types.h). Their bits are the CPU's: every
// sum has the order of docs/numerics.md, and no float is added atomically.
#pragma once

#include "core/cuda_kernels.h"

namespace fastnn {

int cuda_activation(const ActivationArgs& a, void* stream);
int cuda_activation_backward(const ActivationBackwardArgs& a, void* stream);
int cuda_dropout(const DropoutArgs& a, void* stream);
int cuda_column_sum(const ColumnSumArgs& a, void* stream);
int cuda_batch_norm(const BatchNormArgs& a, void* stream);
int cuda_batch_norm_backward(const BatchNormBackwardArgs& a, void* stream);
int cuda_softmax_cross_entropy(const SoftmaxArgs& a, void* stream);
int cuda_point_loss(const PointLossArgs& a, void* stream);
int cuda_gemm(const GemmArgs& a, void* stream);
int cuda_update(const UpdateArgs& a, void* stream, const CudaWorkspace& workspace);

}  // namespace fastnn

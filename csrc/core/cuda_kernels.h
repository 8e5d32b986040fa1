// What the optional extension `_cuda` hands to the rest: its kernels and what it knows of the device. No CUDA
// type stands here, so that everybody may include it: a stream is a cudaStream_t as void*, a status a
// cudaError_t as int, 0 where all is well.
#pragma once

#include <cstdint>
#include <string>

#include "core/types.h"

namespace fastnn {

// Memory of the device that a call may use until its work is done.
struct CudaWorkspace {
    void* data;
    Index bytes;
};

// The operations on the device, in whose memory all arrays lie; csrc/cuda/entries.h says more.
struct CudaKernels {
    const char* build_id;  // of the sources: `_core` and `_cuda` of two builds do not fit
    int (*activation)(const ActivationArgs&, void* stream);
    int (*activation_backward)(const ActivationBackwardArgs&, void* stream);
    int (*dropout)(const DropoutArgs&, void* stream);
    int (*column_sum)(const ColumnSumArgs&, void* stream);
    int (*batch_norm)(const BatchNormArgs&, void* stream);
    int (*batch_norm_backward)(const BatchNormBackwardArgs&, void* stream);
    int (*softmax_cross_entropy)(const SoftmaxArgs&, void* stream);
    int (*point_loss)(const PointLossArgs&, void* stream);
    int (*gemm)(const GemmArgs&, void* stream);
    int (*update)(const UpdateArgs&, void* stream, const CudaWorkspace&);
};

// The name of the capsule that holds the table.
inline constexpr char kCudaCapsule[] = "fastnn._cuda.kernels";

struct CudaDevice {
    std::string name;
    int index;
    int capability;  // 90 for 9.0
    int multiprocessors;
    std::uint64_t memory_bytes;
    int driver, runtime;  // versions, 13000 for 13.0
};

struct CudaTransfers {
    std::uint64_t to_host, to_device;  // bytes
};

// Defined in csrc/cuda.
const CudaKernels& cuda_kernels();
std::string cuda_why_not();  // why no kernel can run, in words; empty where they can
CudaDevice cuda_device();    // the current one, where they can
CudaTransfers cuda_transfers();

}  // namespace fastnn

// What the optional extension `_cuda` hands to the rest: its kernels and what it knows of the device. No CUDA
// type stands here, so that everybody may include it: a stream is a cudaStream_t as void*, a status a
// cudaError_t as int, 0 where all is well.
#pragma once

#include <cstdint>
#include <string>

#include "core/types.h"

namespace fastnn {

// The kernels of the device; all arrays lie in its memory.
struct CudaKernels {
    const char* build_id;  // of the sources: `_core` and `_cuda` of two builds do not fit
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

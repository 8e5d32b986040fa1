// Copies between host and device: all go through here, so that they can be counted.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>

#include "core/cuda_kernels.h"

namespace fastnn {

// Nothing is copied to the host yet: results stay where they are.
inline std::atomic<std::uint64_t> bytes_to_device{0};

inline cudaError_t copy_to_device(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
    bytes_to_device += bytes;
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
}

}  // namespace fastnn

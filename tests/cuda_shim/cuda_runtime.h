// As much of CUDA as csrc/cuda uses, for a CPU: the .cu files compile with this header as plain C++, and each
// thread of a block is a thread of shim.cpp. Found instead of the toolkit's by -Itests/cuda_shim.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <source_location>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
inline thread_local dim3 threadIdx{0, 0, 0};
inline thread_local dim3 blockIdx{0, 0, 0};
inline thread_local dim3 blockDim;

using cudaStream_t = void*;
enum cudaError_t : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorNotSupported = 801 };
enum cudaMemcpyKind : int { cudaMemcpyHostToDevice = 1 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t n, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, n);
    return cudaSuccess;
}

namespace shim {

using Where = std::source_location;

// Runs the kernel for every thread of every block, one block after another.
void launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel);
// The block's shared memory, of exactly this size and full of NaN at first.
void* shared(std::size_t bytes);
void sync_block(const Where& where);
// Puts `bytes` of each thread of the mask where the others see them; `collect` runs before they may go on.
void exchange(unsigned mask, const void* own, std::size_t bytes, const Where& where,
              const std::function<void(const unsigned char* (*of_lane)(unsigned))>& collect);

template <class T>
T from_lane(unsigned mask, T own, unsigned lane, const Where& where) {
    T result = own;
    exchange(mask, &own, sizeof(T), where, [&](auto of_lane) {
        if ((mask >> lane & 1) != 0) std::memcpy(&result, of_lane(lane), sizeof(T));
    });
    return result;
}

}  // namespace shim

#define FASTNN_LAUNCH(kernel, blocks, threads, stream, ...) \
    (static_cast<void>(stream), shim::launch(blocks, threads, [&] { (kernel)(__VA_ARGS__); }))
#define FASTNN_SHARED(Type, name) Type& name = *static_cast<Type*>(shim::shared(sizeof(Type)))
#define FASTNN_MEMBER

inline void __syncthreads(const shim::Where& where = shim::Where::current()) { shim::sync_block(where); }
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, const shim::Where& where = shim::Where::current()) {
    return shim::from_lane(mask, value, (threadIdx.x % 32) ^ static_cast<unsigned>(other), where);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, const shim::Where& where = shim::Where::current()) {
    return shim::from_lane(mask, value, static_cast<unsigned>(lane), where);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, const shim::Where& where = shim::Where::current()) {
    unsigned result = 0;
    shim::exchange(mask, &vote, 1, where, [&](auto of_lane) {
        for (unsigned lane = 0; lane < 32; ++lane)
            if ((mask >> lane & 1) != 0 && *of_lane(lane) != 0) result |= 1u << lane;
    });
    return result;
}
inline unsigned atomicAdd(unsigned* p, unsigned x) { return __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }

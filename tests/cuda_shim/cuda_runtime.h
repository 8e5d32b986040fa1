// As much of CUDA as csrc/cuda uses, for a CPU: the .cu files compile with this header as plain C++, and each
// thread of a block is a thread of shim.cpp. Memory of the device is the host's, a launch runs at once (or,
// if a test asks for it, when somebody waits), and a stream that captures keeps its launches for the graph.
// Found instead of the toolkit's by -Itests/cuda_shim.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <source_location>
#include <vector>

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

namespace shim {
using Launches = std::vector<std::function<void()>>;
struct Stream {
    Launches* captured;  // null: launches run at once
};
// For the tests: pieces of memory that a stream has not got back, and the stream of the last launch.
inline int borrowed = 0;
inline int waits = 0;
inline void* last_stream = nullptr;
inline int capability = 9;  // of the device, its major number
// Work that is put off until somebody waits, in its order, whatever its stream.
inline bool puts_off = false;
inline Launches put_off;
inline void catch_up() {
    Launches work;
    work.swap(put_off);
    for (const auto& one : work) one();
}
inline void in_turn(const std::function<void()>& work) {
    if (puts_off)
        put_off.push_back(work);
    else
        work();
}
}  // namespace shim

using cudaStream_t = shim::Stream*;  // null is the default stream
using cudaGraph_t = shim::Launches*;
using cudaGraphExec_t = shim::Launches*;
enum cudaError_t : int { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorIllegalState = 401 };
enum cudaMemcpyKind : int { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode : int { cudaStreamCaptureModeThreadLocal = 1 };
inline constexpr unsigned cudaStreamNonBlocking = 1;

enum cudaDeviceAttr : int { cudaDevAttrComputeCapabilityMajor = 75 };
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = shim::capability;
    return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaSuccess ? "no error" : "an error of the shim";
}
// What a program reads before it wrote it is NaN.
inline cudaError_t cudaMalloc(void** p, std::size_t n) {
    *p = std::malloc(n);
    if (*p == nullptr) return cudaErrorMemoryAllocation;
    std::memset(*p, 0xff, n);
    return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) {
    shim::catch_up();
    std::free(p);
    return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** p, std::size_t n, cudaStream_t) {
    ++shim::borrowed;
    return cudaMalloc(p, n);
}
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t) {
    --shim::borrowed;
    shim::in_turn([=] { std::free(p); });
    return cudaSuccess;
}
// Between host and device, which no graph may hold: its memory would have to stay. Memory of the host may
// change as soon as the call has returned.
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_row, const void* from, std::size_t from_row,
                                     std::size_t bytes, std::size_t rows, cudaMemcpyKind kind,
                                     cudaStream_t stream) {
    if (stream != nullptr && stream->captured != nullptr) return cudaErrorIllegalState;
    if (kind == cudaMemcpyDeviceToHost) shim::catch_up();
    std::vector<char> staged(rows * bytes);
    for (std::size_t i = 0; i < rows; ++i)
        std::memcpy(staged.data() + i * bytes, static_cast<const char*>(from) + i * from_row, bytes);
    const auto put = [=] {
        for (std::size_t i = 0; i < rows; ++i)
            std::memcpy(static_cast<char*>(to) + i * to_row, staged.data() + i * bytes, bytes);
    };
    if (kind == cudaMemcpyDeviceToHost)
        put();
    else
        shim::in_turn(put);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t n, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, n, from, n, n, 1, kind, stream);
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new shim::Stream{nullptr};
    return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    ++shim::waits;
    shim::catch_up();
    return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream == nullptr) return cudaErrorIllegalState;  // the default stream cannot be captured
    stream->captured = new shim::Launches;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = stream->captured;
    stream->captured = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned) {
    *ready = new shim::Launches(*graph);
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
    for (const auto& launch : *graph) shim::in_turn(launch);
    return cudaSuccess;
}

namespace shim {

using Where = std::source_location;

// Runs the kernel for every thread of every block, one block after another.
void launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel);
inline void launch_on(void* stream, unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    last_stream = stream;
    auto* const on = static_cast<Stream*>(stream);
    const auto work = [=] { launch(blocks, threads, kernel); };
    if (on == nullptr || on->captured == nullptr) return in_turn(work);
    on->captured->push_back(work);
}
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

// The arguments are copied, as a launch copies them.
#define FASTNN_LAUNCH(kernel, blocks, threads, stream, ...) \
    shim::launch_on(stream, blocks, threads, [=] { (kernel)(__VA_ARGS__); })
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
inline void __syncwarp(const shim::Where& where = shim::Where::current()) {
    const char nothing = 0;
    shim::exchange(0xffffffffu, &nothing, 1, where, [](auto) {});
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

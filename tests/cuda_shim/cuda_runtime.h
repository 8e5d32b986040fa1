// As much of CUDA as csrc/cuda uses, for a CPU: the .cu files compile with this header as plain C++, and each
// thread of a block is a thread of shim.cpp. Memory of the device is the host's, a launch runs at once (or,
// if a test asks for it, when somebody waits), and streams that capture keep their launches for the graph:
// nodes, each behind those it waits for, which a replay runs one after another in an order of the test's.
// Found instead of the toolkit's by -Itests/cuda_shim.
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <source_location>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx{0, 0, 0};
inline dim3 blockIdx{0, 0, 0};
inline dim3 blockDim;

namespace shim {
// Threads of the caller's take turns, launch by launch: the shim runs one kernel at a time.
inline std::recursive_mutex one_at_a_time;
using Launches = std::vector<std::function<void()>>;
using Nodes = std::vector<std::size_t>;  // by their numbers, in the order in which they were captured
struct Graph {
    Launches launches;
    std::vector<Nodes> behind;                  // of each launch, what it waits for
    std::vector<std::shared_ptr<void>> memory;  // that was borrowed when it was captured
};
struct Stream;
struct Capture {
    Graph* graph;
    std::vector<Stream*> streams;  // the first began it
};
inline std::atomic<int> captures = 0;  // under way
struct Stream {
    Capture* capture;  // null: launches run at once
    Nodes last;        // what the next launch waits for
};
struct Event {
    Capture* capture;
    Nodes last;
};
// The order of a replay, whatever its dependencies leave open: each launch as early as it was captured, as
// late as it can be, or drawn anew each time.
enum class Order : int { early, late, drawn };
inline Order order = Order::drawn;
inline std::minstd_rand draws;
inline Nodes order_of(const Graph& graph) {
    const std::lock_guard alone(one_at_a_time);
    const std::size_t count = graph.launches.size();
    Nodes found, ready;
    std::vector<std::size_t> missing(count);
    for (std::size_t i = 0; i < count; ++i) {
        missing[i] = graph.behind[i].size();
        if (missing[i] == 0) ready.push_back(i);
    }
    while (!ready.empty()) {
        std::size_t at = 0;
        for (std::size_t i = 1; i < ready.size(); ++i)
            if ((ready[i] < ready[at]) == (order == Order::early)) at = i;
        if (order == Order::drawn) at = draws() % ready.size();
        const std::size_t node = ready[at];
        ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(at));
        found.push_back(node);
        for (std::size_t i = 0; i < count; ++i)
            for (const std::size_t before : graph.behind[i])
                if (before == node && --missing[i] == 0) ready.push_back(i);
    }
    return found;
}
// Nodes of the longest path.
inline std::size_t longest_path(const Graph& graph) {
    std::size_t most = 0;
    Nodes length;
    for (const Nodes& behind : graph.behind) {
        std::size_t own = 1;
        for (const std::size_t before : behind) own = own > length[before] ? own : length[before] + 1;
        length.push_back(own);
        most = most > own ? most : own;
    }
    return most;
}
inline std::size_t last_nodes = 0, last_path = 0;  // of the last graph that was made
inline void wait_for(Nodes& last, const Nodes& more) {
    for (const std::size_t node : more) {
        bool known = false;
        for (const std::size_t other : last) known = known || other == node;
        if (!known) last.push_back(node);
    }
}
// For the tests: pieces of memory that a stream has not got back, and the stream of the last launch.
inline std::atomic<int> borrowed = 0, waits = 0;
inline void* last_stream = nullptr;
inline int capability = 9;  // of the device, its major number
// Work that is put off until somebody waits, in its order, whatever its stream.
inline bool puts_off = false;
inline Launches put_off;
inline void catch_up() {
    const std::lock_guard alone(one_at_a_time);
    Launches work;
    work.swap(put_off);
    for (const auto& one : work) one();
}
inline void in_turn(const std::function<void()>& work) {
    const std::lock_guard alone(one_at_a_time);
    if (puts_off)
        put_off.push_back(work);
    else
        work();
}
}  // namespace shim

using cudaStream_t = shim::Stream*;  // null is the default stream
using cudaEvent_t = shim::Event*;
using cudaGraph_t = shim::Graph*;
using cudaGraphExec_t = shim::Graph*;
enum cudaError_t : int {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorIllegalState = 401,
    cudaErrorStreamCaptureUnjoined = 904
};
enum cudaMemcpyKind : int { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode : int { cudaStreamCaptureModeRelaxed = 2 };
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;

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
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
    --shim::borrowed;
    if (stream != nullptr && stream->capture != nullptr)
        stream->capture->graph->memory.emplace_back(p, std::free);
    else
        shim::in_turn([=] { std::free(p); });
    return cudaSuccess;
}
// Between host and device, which no graph may hold: its memory would have to stay. Memory of the host may
// change as soon as the call has returned.
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_row, const void* from, std::size_t from_row,
                                     std::size_t bytes, std::size_t rows, cudaMemcpyKind kind,
                                     cudaStream_t stream) {
    if (stream != nullptr && stream->capture != nullptr) return cudaErrorIllegalState;
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
    *stream = new shim::Stream{nullptr, {}};
    return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream->capture != nullptr) return cudaErrorIllegalState;  // before the end
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
    stream->capture = new shim::Capture{new shim::Graph, {stream}};
    ++shim::captures;
    stream->last.clear();
    return cudaSuccess;
}
enum cudaStreamCaptureStatus : int { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const bool captures = stream != nullptr && stream->capture != nullptr;
    *status = captures ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
// All that was captured must come before the end of the stream that began.
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    shim::Capture* const capture = stream->capture;
    if (capture == nullptr || capture->streams.front() != stream) return cudaErrorIllegalState;
    shim::Nodes joined = stream->last;
    for (std::size_t i = 0; i < joined.size(); ++i)
        shim::wait_for(joined, shim::Nodes(capture->graph->behind[joined[i]]));
    *graph = joined.size() == capture->graph->launches.size() ? capture->graph : nullptr;
    if (*graph == nullptr) delete capture->graph;
    for (shim::Stream* one : capture->streams) one->capture = nullptr;
    delete capture;
    --shim::captures;
    return *graph == nullptr ? cudaErrorStreamCaptureUnjoined : cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new shim::Event{nullptr, {}};
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
// Of streams that capture: others run at once, so there is nothing to wait for.
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (stream == nullptr || stream->capture == nullptr) return cudaErrorIllegalState;
    *event = {stream->capture, stream->last};
    return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event->capture == nullptr) return cudaErrorIllegalState;
    if (stream->capture == nullptr) {  // it captures too from here on
        stream->capture = event->capture;
        stream->capture->streams.push_back(stream);
        stream->last.clear();
    }
    if (stream->capture != event->capture) return cudaErrorIllegalState;
    shim::wait_for(stream->last, event->last);
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned) {
    const std::lock_guard alone(shim::one_at_a_time);
    *ready = new shim::Graph(*graph);
    shim::last_nodes = graph->launches.size();
    shim::last_path = shim::longest_path(*graph);
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
    for (const std::size_t node : shim::order_of(*graph)) shim::in_turn(graph->launches[node]);
    return cudaSuccess;
}

namespace shim {

using Where = std::source_location;

inline constexpr unsigned kAtOnce = 4;  // blocks, where the threads of several take turns

inline unsigned slot = 0;  // of the thread that runs: which of those its block is

// Runs the kernel for every thread of every block: one block after another, from the first to the last or
// from the last to the first, or a few at once.
void launch(unsigned blocks, unsigned threads, const std::function<void()>& kernel);
inline void launch_on(void* stream, unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    const std::lock_guard alone(one_at_a_time);
    last_stream = stream;
    auto* const on = static_cast<Stream*>(stream);
    const auto work = [=] { launch(blocks, threads, kernel); };
    if (on == nullptr || on->capture == nullptr) return in_turn(work);
    Graph& graph = *on->capture->graph;
    graph.launches.push_back(work);
    graph.behind.push_back(on->last);
    on->last = {graph.launches.size() - 1};
}
// The block's shared memory, of exactly this size and full of NaN at first.
void* shared(std::size_t bytes);
void sync_block(const Where& where);
void sync_lanes(unsigned mask, const Where& where);
// What a lane shows the others: at most four registers. They see it, but nothing else is ordered by that, so
// ThreadSanitizer does not look at it.
struct Slot {
    unsigned char bytes[16];
    template <class T>
    [[gnu::noinline, gnu::no_sanitize("thread")]] T as() const {
        T value;
        __builtin_memcpy(&value, bytes, sizeof(T));
        return value;
    }
};
// Puts `bytes` of each thread of the mask where the others see them; `collect` runs before they may go on.
void exchange(unsigned mask, const void* own, std::size_t bytes, const Where& where,
              const std::function<void(const Slot* (*of_lane)(unsigned))>& collect);

// What ThreadSanitizer, which knows no fences, must see: an atomic behind a fence hands over itself and what
// its thread wrote before, and a fence behind an atomic takes what was handed over. Alone it orders nothing.
void fence();
void counted(unsigned* counter);

template <class T>
T from_lane(unsigned mask, T own, unsigned lane, const Where& where) {
    T result = own;
    exchange(mask, &own, sizeof(T), where, [&](auto of_lane) {
        if ((mask >> lane & 1) != 0) result = of_lane(lane)->template as<T>();
    });
    return result;
}

}  // namespace shim

// The arguments are copied, as a launch copies them.
#define FASTNN_LAUNCH(kernel, blocks, threads, stream, ...) \
    shim::launch_on(stream, blocks, threads, [=] { (kernel)(__VA_ARGS__); })
#define FASTNN_SHARED(Type, name) Type& name = *static_cast<Type*>(shim::shared(sizeof(Type)))
#define FASTNN_MEMBER
#define FASTNN_CALLED static

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
    shim::sync_lanes(0xffffffffu, where);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, const shim::Where& where = shim::Where::current()) {
    unsigned result = 0;
    shim::exchange(mask, &vote, 1, where, [&](auto of_lane) {
        for (unsigned lane = 0; lane < 32; ++lane)
            if ((mask >> lane & 1) != 0 && of_lane(lane)->template as<bool>()) result |= 1u << lane;
    });
    return result;
}
inline void __threadfence() { shim::fence(); }
template <class T>
T __ldcg(const T* p) {
    return *p;
}
inline unsigned atomicAdd(unsigned* p, unsigned x) {
    const unsigned before = __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
    shim::counted(p);
    return before;
}

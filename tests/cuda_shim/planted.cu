// Kernels that the shim itself is tested with: sound ones, and the same with a bug.
#include <cstdio>

#include "cuda/launch.h"
#include "shim.h"

namespace {

struct Values {
    unsigned of[64];
};

constexpr unsigned kN = 64;

// out[t] = what the thread at the other end wrote.
__global__ void reverse(unsigned* out, bool barrier) {
    FASTNN_SHARED(Values, values);
    values.of[threadIdx.x] = threadIdx.x + 1;
    if (barrier) __syncthreads();
    out[threadIdx.x] = values.of[kN - 1 - threadIdx.x];
}

// Half of the threads wait where the others do not.
__global__ void divergent(unsigned* out) {
    if (threadIdx.x < kN / 2) __syncthreads();
    if (threadIdx.x >= kN / 2) __syncthreads();
    out[threadIdx.x] = 1;
}

// A lane that the mask names never comes.
__global__ void absent_lane(unsigned* out) {
    if (threadIdx.x % 32 == 5) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
}

// Ended threads are not waited for.
__global__ void early_end(unsigned* out) {
    if (threadIdx.x % 2 == 0) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void lanes(unsigned* out) {
    const unsigned all = 0xffffffffu;
    const unsigned odd = __ballot_sync(all, threadIdx.x % 2 == 1);
    const unsigned third = __shfl_sync(all, threadIdx.x, 3);
    const unsigned half = 0xffffu << (threadIdx.x & 16);
    const unsigned neighbour = __shfl_xor_sync(half, threadIdx.x, 1);
    atomicAdd(out + kN, odd == 0xaaaaaaaau && third == threadIdx.x / 32 * 32 + 3);
    out[threadIdx.x] = neighbour;
}

// out[t] = what the neighbour wrote. All meet at a shuffle too, but it orders no memory.
__global__ void neighbours(unsigned* out, bool orders) {
    FASTNN_SHARED(Values, values);
    values.of[threadIdx.x] = threadIdx.x + 1;
    if (orders)
        __syncwarp();
    else
        __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
    out[threadIdx.x] = values.of[threadIdx.x ^ 1];
}

__global__ void beyond(unsigned* out) {
    FASTNN_SHARED(Values, values);
    values.of[threadIdx.x] = 0;
    *out = *(&values.of[0] + kN + (threadIdx.x == 0 ? 0 : -1));
}

__global__ void put(unsigned* out, unsigned value) { *out = value; }
__global__ void append(unsigned* out, unsigned digit) { *out = *out * 10 + digit; }

// The block that comes last adds what the others have written.
__global__ void last_adds(unsigned* out, bool fences) {
    if (threadIdx.x != 0) return;
    out[blockIdx.x] = blockIdx.x + 1;
    if (fences) __threadfence();
    if (atomicAdd(out + kN, 1u) != 3) return;
    if (fences) __threadfence();
    for (int i = 0; i < 4; ++i) out[4] += out[i];
}

// A thread that neither waits nor ends.
__global__ void endless(unsigned* out) {
    for (volatile unsigned* const never = out; *never == 0;) {
    }
}

// Each block gives its number to the first place that is free.
__global__ void blocks_in_turn(unsigned* out) {
    if (threadIdx.x == 0) out[atomicAdd(out + kN, 1u)] = blockIdx.x;
}

}  // namespace

// A graph that puts 0 and then appends 1, 2 and 3: 1 and 2 on the chain, 3 on a branch that begins behind the
// 0, and a 4 behind both (the branch is joined) or on the chain alone. The status of its capture.
extern "C" int planted_graph(int order, bool joined, unsigned* out) {
    shim::order = static_cast<shim::Order>(order);
    cudaStream_t chain, branch;
    cudaEvent_t event;
    cudaStreamCreateWithFlags(&chain, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&branch, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaStreamBeginCapture(chain, cudaStreamCaptureModeRelaxed);
    FASTNN_LAUNCH(put, 1, 1, chain, out, 0);
    cudaEventRecord(event, chain);
    cudaStreamWaitEvent(branch, event, 0);
    FASTNN_LAUNCH(append, 1, 1, branch, out, 3);
    FASTNN_LAUNCH(append, 1, 1, chain, out, 1);
    FASTNN_LAUNCH(append, 1, 1, chain, out, 2);
    cudaEventRecord(event, branch);
    if (joined) cudaStreamWaitEvent(chain, event, 0);
    FASTNN_LAUNCH(append, 1, 1, chain, out, 4);
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(chain, &graph);
    if (graph != nullptr) {
        cudaGraphExec_t ready;
        cudaGraphInstantiate(&ready, graph, 0);
        cudaGraphLaunch(ready, nullptr);
        cudaGraphExecDestroy(ready);
        cudaGraphDestroy(graph);
    }
    cudaEventDestroy(event);
    cudaStreamDestroy(branch);
    cudaStreamDestroy(chain);
    return status;
}

extern "C" void planted_run(int kernel, unsigned* out, int schedule, char* failure, std::size_t size) {
    shim::set_schedule(static_cast<shim::Schedule>(schedule));
    switch (kernel) {
        case 0:
            FASTNN_LAUNCH(reverse, 1, kN, nullptr, out, true);
            break;
        case 1:
            FASTNN_LAUNCH(reverse, 1, kN, nullptr, out, false);
            break;
        case 2:
            FASTNN_LAUNCH(divergent, 1, kN, nullptr, out);
            break;
        case 3:
            FASTNN_LAUNCH(absent_lane, 1, kN, nullptr, out);
            break;
        case 4:
            FASTNN_LAUNCH(early_end, 1, kN, nullptr, out);
            break;
        case 5:
            FASTNN_LAUNCH(lanes, 1, kN, nullptr, out);
            break;
        case 7:
            FASTNN_LAUNCH(blocks_in_turn, 5, kN, nullptr, out);
            break;
        case 8:
            FASTNN_LAUNCH(last_adds, 4, kN, nullptr, out, true);
            break;
        case 9:
            FASTNN_LAUNCH(last_adds, 4, kN, nullptr, out, false);
            break;
        case 10:
            FASTNN_LAUNCH(neighbours, 1, kN, nullptr, out, true);
            break;
        case 11:
            FASTNN_LAUNCH(neighbours, 1, kN, nullptr, out, false);
            break;
        case 12:
            shim::patience = 1;
            FASTNN_LAUNCH(endless, 1, kN, nullptr, out);
            break;
        default:
            FASTNN_LAUNCH(beyond, 1, kN, nullptr, out);
            break;
    }
    std::snprintf(failure, size, "%s", shim::take_failure().c_str());
}

// What every kernel of this room is written with. A kernel is started by FASTNN_LAUNCH and keeps what its
// threads share in one FASTNN_SHARED struct, so that tests/cuda_shim can compile the same source for the CPU
// and run it there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/formula.h"
#include "core/types.h"

#if defined(__CUDACC__)
#define FASTNN_LAUNCH(kernel, blocks, threads, stream, ...) \
    (kernel)<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define FASTNN_SHARED(Type, name) __shared__ Type name
#define FASTNN_MEMBER __device__ __forceinline__
// A function of its own, which takes no registers from the loops of its callers.
#define FASTNN_CALLED static __device__ __noinline__
#endif

namespace fastnn {

inline constexpr int kThreads = 256;  // of a block, where nothing speaks for another number

inline unsigned blocks_for(Index items, Index per_block) {
    return static_cast<unsigned>((items + per_block - 1) / per_block);
}

// The status of the launch that went before.
inline int launched() { return static_cast<int>(cudaGetLastError()); }

// W numbers side by side, read and written by one instruction (of sixteen bytes at most).
template <int W, class T = float>
struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Pack {
    T v[W];
};

template <int W, class T>
FASTNN_RULE Pack<W, T> load(const T* p) {
    return *reinterpret_cast<const Pack<W, T>*>(p);
}
template <int W, class T>
FASTNN_RULE void store(T* p, const Pack<W, T>& x) {
    *reinterpret_cast<Pack<W, T>*>(p) = x;
}

// W times x.
template <int W, class T>
FASTNN_RULE Pack<W, T> splat(T x) {
    Pack<W, T> y;
#pragma unroll
    for (int l = 0; l < W; ++l) y.v[l] = x;
    return y;
}

// Whether all of these (null included) begin at multiples of 16 bytes.
template <class... T>
__host__ __device__ inline bool aligned(const T*... p) {
    return ((reinterpret_cast<std::uintptr_t>(p) | ...) & 15) == 0;
}
// And rows this long keep it so.
template <class... R>
__host__ __device__ inline bool in_fours(R... floats) {
    return ((floats | ...) & 3) == 0;
}

template <class F, class... P>
FASTNN_RULE void map_pack(Pack<4>& y, Index i, F f, const P&... x) {
#pragma unroll
    for (int l = 0; l < 4; ++l) y.v[l] = f(i + l, x.v[l]...);
}

// out[i] = f(i, in[i]...) for the four elements from `i` on, as far as there are n.
template <class F, class... In>
FASTNN_RULE void map_four(bool packs, Index i, Index n, float* out, F f, const In*... in) {
    if (packs && i + 4 <= n) {
        Pack<4> y;
        map_pack(y, i, f, load<4>(in + i)...);
        store<4>(out + i, y);
    } else {
        for (const Index end = i + 4 < n ? i + 4 : n; i < end; ++i) out[i] = f(i, in[i]...);
    }
}

// Called by one thread of each of so many blocks: true in the one that comes last, which sees what the others
// had written. `arrived` is 0 before and afterwards.
FASTNN_RULE bool is_last_block(unsigned& arrived, unsigned blocks) {
    __threadfence();
    if (atomicAdd(&arrived, 1u) != blocks - 1) return false;
    __threadfence();
    arrived = 0;
    return true;
}

// The first of the four elements that are this thread's.
FASTNN_RULE Index four_of_thread() { return (Index{blockIdx.x} * blockDim.x + threadIdx.x) * 4; }

}  // namespace fastnn

// The sixteen lanes in which the CPU adds along a row, or along a run of losses: W neighbours of them in a
// thread, so 16 / W threads in a row have all of them and read them W at a time. Whatever W is, each lane
// adds its own numbers in their order, and the lanes fold in halves.
#pragma once

#include "cuda/launch.h"

namespace fastnn {

inline constexpr int kLanes = 16;

template <int W>
inline constexpr int kLaneThreads = kLanes / W;

// The first lane of this thread.
template <int W>
FASTNN_RULE Index first_lane() {
    return threadIdx.x % kLaneThreads<W> * W;
}

template <int W>
FASTNN_RULE void add_lanes(Pack<W>& sum, const Pack<W>& more) {
#pragma unroll
    for (int l = 0; l < W; ++l) sum.v[l] = sum.v[l] + more.v[l];
}

// op over the lanes, on each of their threads: halves of W or more are with other threads.
template <int W, class Op>
FASTNN_RULE float fold_lanes(Pack<W> x, Op op) {
    constexpr unsigned kThreadsOfWarp = 32;
    const unsigned mask = ((1u << kLaneThreads<W>)-1u) << (threadIdx.x & (kThreadsOfWarp - kLaneThreads<W>));
#pragma unroll
    for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma unroll
        for (int l = 0; l < W; ++l) {
            if (half >= W)
                x.v[l] = op(x.v[l], __shfl_xor_sync(mask, x.v[l], half / W));
            else if (l < half)
                x.v[l] = op(x.v[l], x.v[l + half]);
        }
    }
    return x.v[0];
}

template <int W>
FASTNN_RULE float lanes_sum(const Pack<W>& x) {
    return fold_lanes(x, [](float a, float b) { return a + b; });
}
template <int W>
FASTNN_RULE float lanes_max(const Pack<W>& x) {
    return fold_lanes(x, [](float a, float b) { return max_(a, b); });
}

}  // namespace fastnn

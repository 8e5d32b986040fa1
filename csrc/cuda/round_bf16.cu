// y = x rounded to bfloat16, contiguous.
#include "cuda/bf16.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

__global__ void __launch_bounds__(kThreads) round_bf16(RoundArgs r) {
    const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
    if (i >= r.rows * r.cols) return;
    static_cast<BFloat16*>(r.y)[i] = narrowed(r.x[i / r.cols * r.x_row + i % r.cols]);
}

// Rows that follow one another, four numbers a thread.
__global__ void __launch_bounds__(kThreads) round_fours(RoundArgs r) {
    const Index i = four_of_thread();
    if (i >= r.rows * r.cols) return;
    const Pack<4> x = load<4>(r.x + i);
    Pack<4, BFloat16> y;
#pragma unroll
    for (int l = 0; l < 4; ++l) y.v[l] = narrowed(x.v[l]);
    store(static_cast<BFloat16*>(r.y) + i, y);
}

}  // namespace

int cuda_round_bf16(const RoundArgs& r, void* stream) {
    const Index n = r.rows * r.cols;
    if (n == 0) return 0;
    if ((r.x_row == r.cols || r.rows == 1) && in_fours(n) && aligned(r.x, static_cast<const float*>(r.y)))
        FASTNN_LAUNCH(round_fours, blocks_for(n, 4 * kThreads), kThreads, stream, r);
    else
        FASTNN_LAUNCH(round_bf16, blocks_for(n, kThreads), kThreads, stream, r);
    return launched();
}

}  // namespace fastnn

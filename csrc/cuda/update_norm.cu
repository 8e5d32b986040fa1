// What an update must know of all gradients before it changes anything: whether they are finite, and their
// norms, with the sums of cpu/update_norm.cpp in their order. A warp has 4096 elements: its thread t the
// chains 2 (t / 16) and the next one of lane t % 16. The block that ends last looks at the sums of all.
#include "core/kernels.h"
#include "core/norms.h"
#include "cuda/entries.h"
#include "cuda/update_tensors.h"

namespace fastnn {
namespace {

constexpr int kLanes = 16;
constexpr int kWarp = 32;
constexpr int kWarps = 4;  // of a block: together a chunk
constexpr int kGroup = 4 * kLanes;
constexpr int kUnitThreads = 64;  // columns of a chunk of the CPU's

// Of n elements, by all threads of a warp; each gets the result.
FASTNN_RULE double warp_sum_squares(const float* x, Index n) {
    const Index thread = threadIdx.x % kWarp;
    const Index lane = thread % kLanes;
    const Index pair = thread / kLanes * 2 * kLanes;
    float first = 0.0f, second = 0.0f;
    Index i = 0;
#pragma unroll 4
    for (; i + kGroup <= n; i += kGroup) {
        const float v = x[i + pair + lane], w = x[i + pair + kLanes + lane];
        first = fma(v, v, first);
        second = fma(w, w, second);
    }
    if (pair == 0)  // what is left joins the first chain
        for (i += lane; i < n; i += kLanes) first = fma(x[i], x[i], first);
    float sum = first + second;
#pragma unroll
    for (int half = kLanes; half > 0; half /= 2) sum = sum + __shfl_xor_sync(0xffffffffu, sum, half);
    return checked_squares(sum, x, n, 1);
}

struct WarpSums {
    double of[kWarps];
};

__global__ void __launch_bounds__(kWarps* kWarp) sum_squares(UpdateArgs a) {
    FASTNN_SHARED(WarpSums, sums);
    const Index chunk = blockIdx.x;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const UpdateTensor& t = tensor_of<&UpdateTensor::first_chunk>(a, chunk);
    const Index size = update_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    const Index end = begin + size < t.n ? begin + size : t.n;
    double total = 0.0;  // of the first thread
    // Once, but in arrays past 2^33 elements.
    for (Index round = begin; round < end; round += kWarps * kSummed) {
        const Index i = round + warp * kSummed;
        const Index left = end - i;
        const double own = left > 0 ? warp_sum_squares(t.grad + i, left < kSummed ? left : kSummed) : 0.0;
        if (threadIdx.x % kWarp == 0) sums.of[warp] = own;
        __syncthreads();
        if (threadIdx.x == 0)
            for (int w = 0; w < kWarps && round + w * kSummed < end; ++w) total += sums.of[w];
        __syncthreads();  // before the next round's sums
    }
    if (threadIdx.x != 0) return;
    a.sums[chunk] = total;
    if (is_last_block(a.verdict->arrived, static_cast<unsigned>(a.chunks))) decide(a);
}

FASTNN_RULE double sum_squares_of(const float* x, Index n) {
    double total = 0.0;
    for (Index i = 0; i < n; i += kSummed)
        total += warp_sum_squares(x + i, n - i < kSummed ? n - i : kSummed);
    return total;
}

// The squares of a column of the gradient or the weights.
FASTNN_RULE double column_squares(const float* x, Index rows, Index cols) {
    float squares = 0.0f;
    for (Index first = 0; first < rows; first += kUnitRows) {
        float part = 0.0f;
        const Index stop = rows < first + kUnitRows ? rows : first + kUnitRows;
        for (Index row = first; row < stop; ++row) part = fma(x[row * cols], x[row * cols], part);
        squares = squares + part;
    }
    return checked_squares(squares, x, rows, cols);
}

__global__ void __launch_bounds__(kUnitThreads) units(UpdateArgs a) {
    const UpdateTensor& t = tensor_of<&UpdateTensor::first_unit_chunk>(a, blockIdx.x);
    if (t.units == 1) {
        if (threadIdx.x >= kWarp) return;
        const double grad = sum_squares_of(t.grad, t.n), param = sum_squares_of(t.param, t.n);
        if (threadIdx.x == 0)
            a.scales[t.first_unit] = adaptive_scale(grad, param, a.clip_limit, a.clip_floor);
        return;
    }
    const Index column = (blockIdx.x - t.first_unit_chunk) * kUnitThreads + threadIdx.x;
    if (column >= t.cols) return;
    const Index rows = t.n / t.cols;
    a.scales[t.first_unit + column] =
        adaptive_scale(column_squares(t.grad + column, rows, t.cols),
                       column_squares(t.param + column, rows, t.cols), a.clip_limit, a.clip_floor);
}

}  // namespace

int cuda_update_norm(const UpdateNormArgs& args, void* stream) {
    const UpdateArgs& a = args.update;
    if (a.sums != nullptr && a.chunks > 0)
        FASTNN_LAUNCH(sum_squares, static_cast<unsigned>(a.chunks), kWarps * kWarp, stream, a);
    if (a.unit_chunks > 0)
        FASTNN_LAUNCH(units, static_cast<unsigned>(a.unit_chunks), kUnitThreads, stream, a);
    return launched();
}

}  // namespace fastnn

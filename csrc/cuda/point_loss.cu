// Elementwise losses with their gradients. A block of threads has a chunk of the CPU's (cpu/loss.cpp):
// sixteen threads for sixteen lanes, sixteen such groups for sixteen runs of kLossVectors vectors; their sums
// are added in the order of the runs. Each group reads 64 bytes in a row.
#include "core/losses.h"
#include "core/sums.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

constexpr int kLanes = 16;
constexpr int kGroups = 16;
static_assert(kLanes * kGroups == kThreads);

struct GroupSums {
    float of[kGroups][kLanes];
};

template <PointLoss kKind>
FASTNN_RULE float loss_of(float pred, float target, float delta, float& slope) {
    if constexpr (kKind == PointLoss::squared) return squared_loss(pred, target, slope);
    if constexpr (kKind == PointLoss::huber) return huber_loss(pred, target, delta, slope);
    return logistic_loss(pred, target, slope);
}

// The losses of elements begin + lane, begin + lane + 16, ... up to end, added to `sum`.
template <PointLoss kKind, class Weight>
FASTNN_RULE void add_losses(const PointLossArgs& a, Index begin, Index end, bool weighted, Weight weight,
                            float& sum) {
    for (Index i = begin + threadIdx.x % kLanes; i < end; i += kLanes) {
        float slope;
        const float loss = loss_of<kKind>(a.pred[i], a.target[i], a.delta, slope);
        const float w = weight(i);
        a.dpred[i] = slope * w;
        sum = sum + (weighted ? loss * w : loss);
    }
}

// How the chunks are cut: in elements where they are one run, else in rows.
struct LossCut {
    bool run;
    Index all, size, step;
};

LossCut loss_cut(const PointLossArgs& a) {
    const bool run = one_run(a);
    const Index elements = a.rows * a.cols;
    return {run, run ? elements : a.rows, run ? stream_chunk(elements) : loss_rows_per_chunk(a),
            run ? kLossVectors * kLanes : kLossRows};
}

template <PointLoss kKind>
__global__ void __launch_bounds__(kThreads, 4) point_loss(PointLossArgs a, LossCut cut) {
    FASTNN_SHARED(GroupSums, sums);
    const Index group = threadIdx.x / kLanes;
    const Index lane = threadIdx.x % kLanes;
    const Index chunk = blockIdx.x;
    const bool weighted = a.weight != nullptr;
    const Index begin = chunk * cut.size;
    const Index end = begin + cut.size < cut.all ? begin + cut.size : cut.all;

    float total = 0.0f;  // of the first group's threads
    for (Index round = begin; round < end; round += kGroups * cut.step) {
        float sum = 0.0f;
        const Index first = round + group * cut.step;
        const Index last = first + cut.step < end ? first + cut.step : end;
        if (cut.run) {
            add_losses<kKind>(
                a, first, last, weighted, [&](Index i) { return weighted ? a.weight[i] : a.scale; }, sum);
        } else {
            for (Index row = first; row < last; ++row) {
                const float w = a.weight[row];
                const Index row_end = (row + 1) * a.cols;
                float of_row = 0.0f;
                for (Index i = row * a.cols; i < row_end; i += kLossVectors * kLanes) {
                    const Index stop =
                        i + kLossVectors * kLanes < row_end ? i + kLossVectors * kLanes : row_end;
                    float part = 0.0f;
                    add_losses<kKind>(a, i, stop, true, [&](Index) { return w; }, part);
                    of_row = of_row + part;
                }
                sum = sum + of_row;
            }
        }
        sums.of[group][lane] = sum;
        __syncthreads();
        if (group == 0)
            for (int g = 0; g < kGroups && round + g * cut.step < end; ++g) total = total + sums.of[g][lane];
        __syncthreads();  // before the next round's sums
    }
    if (group != 0) return;
#pragma unroll
    for (int half = kLanes / 2; half > 0; half /= 2) total = total + __shfl_xor_sync(0xffffu, total, half);
    if (lane == 0) a.sums[chunk] = static_cast<double>(total);
}

}  // namespace

int cuda_point_loss(const PointLossArgs& a, void* stream) {
    if (a.rows == 0 || a.cols == 0) return 0;
    const auto blocks = static_cast<unsigned>(loss_chunks(a));
    const LossCut cut = loss_cut(a);
    switch (a.kind) {
        case PointLoss::squared:
            FASTNN_LAUNCH(point_loss<PointLoss::squared>, blocks, kThreads, stream, a, cut);
            break;
        case PointLoss::huber:
            FASTNN_LAUNCH(point_loss<PointLoss::huber>, blocks, kThreads, stream, a, cut);
            break;
        case PointLoss::logistic:
            FASTNN_LAUNCH(point_loss<PointLoss::logistic>, blocks, kThreads, stream, a, cut);
            break;
    }
    return launched();
}

}  // namespace fastnn

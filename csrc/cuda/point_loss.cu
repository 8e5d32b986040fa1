// Elementwise losses with their gradients. A block of threads has a chunk of the CPU's (cpu/loss.cpp):
// sixteen groups for sixteen runs of kLossVectors vectors, each of the threads of the sixteen lanes
// (lanes.h); their sums are added in the order of the runs. Each group reads 64 bytes in a row.
#include "core/losses.h"
#include "core/sums.h"
#include "cuda/entries.h"
#include "cuda/lanes.h"

namespace fastnn {
namespace {

constexpr int kGroups = 16;
template <int W>
constexpr int kLossThreads = kGroups * kLaneThreads<W>;
constexpr int kResident = 1024;  // threads that a multiprocessor has room for, by their registers

struct GroupSums {
    alignas(16) float of[kGroups][kLanes];
};

template <PointLoss kKind>
FASTNN_RULE float loss_of(float pred, float target, float delta, float& slope) {
    if constexpr (kKind == PointLoss::squared) return squared_loss(pred, target, slope);
    if constexpr (kKind == PointLoss::huber) return huber_loss(pred, target, delta, slope);
    return logistic_loss(pred, target, slope);
}

// The first n of W elements, and zeros.
template <int W>
FASTNN_RULE Pack<W> load_first(const float* p, int n) {
    if (n == W) return load<W>(p);
    Pack<W> x{};
#pragma unroll
    for (int l = 0; l < W; ++l)
        if (l < n) x.v[l] = p[l];
    return x;
}
template <int W>
FASTNN_RULE void store_first(float* p, const Pack<W>& x, int n) {
    if (n == W) return store(p, x);
#pragma unroll
    for (int l = 0; l < W; ++l)
        if (l < n) p[l] = x.v[l];
}

// The losses of this thread's lanes in [begin, end), added to `sum`; weight(i, n): of n elements from i on.
template <PointLoss kKind, int W, class Weight>
FASTNN_RULE void add_losses(const PointLossArgs& a, Index begin, Index end, bool weighted, Weight weight,
                            Pack<W>& sum) {
    for (Index i = begin + first_lane<W>(); i < end; i += kLanes) {
        const int n = W > 1 && end - i < W ? static_cast<int>(end - i) : W;
        const Pack<W> pred = load_first<W>(a.pred + i, n), target = load_first<W>(a.target + i, n);
        const Pack<W> w = weight(i, n);
        Pack<W> d;
#pragma unroll
        for (int l = 0; l < W; ++l) {
            float slope;
            const float loss = loss_of<kKind>(pred.v[l], target.v[l], a.delta, slope);
            d.v[l] = slope * w.v[l];
            if (l < n) sum.v[l] = sum.v[l] + (weighted ? loss * w.v[l] : loss);
        }
        store_first(a.dpred + i, d, n);
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

template <PointLoss kKind, int W>
__global__ void __launch_bounds__(kLossThreads<W>, kResident / kLossThreads<W>)
    point_loss(PointLossArgs a, LossCut cut) {
    FASTNN_SHARED(GroupSums, sums);
    const Index group = threadIdx.x / kLaneThreads<W>;
    const Index lane = first_lane<W>();
    const Index chunk = blockIdx.x;
    const bool weighted = a.weight != nullptr;
    const Index begin = chunk * cut.size;
    const Index end = begin + cut.size < cut.all ? begin + cut.size : cut.all;

    Pack<W> total{};  // of the first group's threads
    for (Index round = begin; round < end; round += kGroups * cut.step) {
        Pack<W> sum{};
        const Index first = round + group * cut.step;
        const Index last = first + cut.step < end ? first + cut.step : end;
        if (cut.run) {
            const auto weights = [&](Index i, int n) {
                return weighted ? load_first<W>(a.weight + i, n) : splat<W>(a.scale);
            };
            add_losses<kKind>(a, first, last, weighted, weights, sum);
        } else {
            for (Index row = first; row < last; ++row) {
                const Pack<W> w = splat<W>(a.weight[row]);
                const Index row_end = (row + 1) * a.cols;
                Pack<W> of_row{};
                for (Index i = row * a.cols; i < row_end; i += kLossVectors * kLanes) {
                    const Index stop =
                        i + kLossVectors * kLanes < row_end ? i + kLossVectors * kLanes : row_end;
                    Pack<W> part{};
                    add_losses<kKind>(a, i, stop, true, [&](Index, int) { return w; }, part);
                    add_lanes(of_row, part);
                }
                add_lanes(sum, of_row);
            }
        }
        store(&sums.of[group][lane], sum);
        __syncthreads();
        if (group == 0)
            for (int g = 0; g < kGroups && round + g * cut.step < end; ++g)
                add_lanes(total, load<W>(&sums.of[g][lane]));
        __syncthreads();  // before the next round's sums
    }
    if (group != 0) return;
    const float all = lanes_sum(total);
    if (lane == 0) a.sums[chunk] = static_cast<double>(all);
}

// Four elements at a time: runs begin at fours (the last may end anywhere), and rows where they are so long.
bool in_packs(const PointLossArgs& a) {
    return aligned(a.pred, a.target, a.dpred) && (one_run(a) ? aligned(a.weight) : in_fours(a.cols));
}

template <int W>
void start(const PointLossArgs& a, void* stream) {
    const auto blocks = static_cast<unsigned>(loss_chunks(a));
    const LossCut cut = loss_cut(a);
    switch (a.kind) {
        case PointLoss::squared:
            FASTNN_LAUNCH((point_loss<PointLoss::squared, W>), blocks, kLossThreads<W>, stream, a, cut);
            break;
        case PointLoss::huber:
            FASTNN_LAUNCH((point_loss<PointLoss::huber, W>), blocks, kLossThreads<W>, stream, a, cut);
            break;
        case PointLoss::logistic:
            FASTNN_LAUNCH((point_loss<PointLoss::logistic, W>), blocks, kLossThreads<W>, stream, a, cut);
            break;
    }
}

}  // namespace

int cuda_point_loss(const PointLossArgs& a, void* stream) {
    if (a.rows == 0 || a.cols == 0) return 0;
    if (in_packs(a))
        start<4>(a, stream);
    else
        start<1>(a, stream);
    return launched();
}

}  // namespace fastnn

// Softmax cross-entropy with its gradient. The threads of the sixteen lanes (lanes.h) have a row, as the
// lanes have on the CPU (cpu/softmax.cpp): classes go to them in order, and they fold in halves. exp(z) is
// computed again for the gradient: cheaper than writing and reading it.
#include "core/functions.h"
#include "cuda/entries.h"
#include "cuda/lanes.h"

namespace fastnn {
namespace {

constexpr int kBlockRows = 8;

template <bool kIds, int W>
__global__ void __launch_bounds__(kBlockRows* kLaneThreads<W>) softmax(SoftmaxArgs a) {
    const Index row = Index{blockIdx.x} * kBlockRows + threadIdx.x / kLaneThreads<W>;
    const Index first = first_lane<W>();
    if (row >= a.rows) return;  // all of its threads
    const float* const x = a.logits + row * a.logits_row;
    const float* const probabilities = kIds ? nullptr : a.probabilities + row * a.probabilities_row;
    float* const d = a.dlogits + row * a.cols;
    const Index label = kIds ? a.labels[row] : 0;
    if (kIds && label == kIgnoredLabel) {
        for (Index j = first; j < a.cols; j += kLanes) store(d + j, Pack<W>{});
        if (first == 0) a.row_loss[row] = 0.0;
        return;
    }
    const auto targets = [&](Index j) {
        Pack<W> t;
        if constexpr (!kIds) t = load<W>(probabilities + j);
#pragma unroll
        for (int l = 0; l < W; ++l) t.v[l] = kIds ? a.share : fma(a.keep, t.v[l], a.share);
        return t;
    };

    Pack<W> tops = splat<W>(-__builtin_inff());
    for (Index j = first; j < a.cols; j += kLanes) {
        const Pack<W> z = load<W>(x + j);
#pragma unroll
        for (int l = 0; l < W; ++l) tops.v[l] = max_(z.v[l], tops.v[l]);
    }
    const float top = lanes_max(tops);

    Pack<W> totals{}, masses{}, products{};
    for (Index j = first; j < a.cols; j += kLanes) {
        const Pack<W> z = load<W>(x + j), t = targets(j);
#pragma unroll
        for (int l = 0; l < W; ++l) {
            totals.v[l] = totals.v[l] + exp_minus(top - z.v[l]);
            masses.v[l] = masses.v[l] + t.v[l];
            products.v[l] = products.v[l] + t.v[l] * (z.v[l] - top);
        }
    }
    const float total = lanes_sum(totals);
    const float all = kIds ? 1.0f : lanes_sum(masses);
    const float product = !kIds || a.share != 0.0f ? lanes_sum(products) : 0.0f;
    const float weight = a.weight != nullptr ? a.weight[row] : a.scale;
    const float factor = 1.0f / total * all * weight;
    double loss = static_cast<double>(log(total)) * static_cast<double>(all) - static_cast<double>(product);

    for (Index j = first; j < a.cols; j += kLanes) {
        const Pack<W> z = load<W>(x + j), t = targets(j);
        Pack<W> g;
#pragma unroll
        for (int l = 0; l < W; ++l) {
            g.v[l] = fma(exp_minus(top - z.v[l]), factor, t.v[l] * -weight);
            if (kIds && j + l == label) {
                g.v[l] = g.v[l] - a.keep * weight;
                loss -= static_cast<double>(a.keep) * static_cast<double>(z.v[l] - top);
            }
        }
        store(d + j, g);
    }
    // The thread that has the label has its term. A label beyond the classes, which nobody has, gives NaN.
    const bool valid = !kIds || (label >= 0 && label < a.cols);
    if (first == (kIds && valid ? label % kLanes / W * W : 0))
        a.row_loss[row] = valid ? loss : __builtin_nan("");
}

// Four classes at a time. In shorter rows there are few for a thread either way, and sixteen threads have
// fewer each.
bool in_packs(const SoftmaxArgs& a) {
    constexpr Index kLeast = 64;
    return a.cols >= kLeast && in_fours(a.cols, a.logits_row) &&
           aligned(a.logits, a.probabilities, a.dlogits) &&
           (a.probabilities == nullptr || in_fours(a.probabilities_row));
}

template <int W>
void start(const SoftmaxArgs& a, void* stream) {
    constexpr int kRowThreads = kBlockRows * kLaneThreads<W>;
    const unsigned blocks = blocks_for(a.rows, kBlockRows);
    if (a.labels != nullptr)
        FASTNN_LAUNCH((softmax<true, W>), blocks, kRowThreads, stream, a);
    else
        FASTNN_LAUNCH((softmax<false, W>), blocks, kRowThreads, stream, a);
}

}  // namespace

int cuda_softmax_cross_entropy(const SoftmaxArgs& a, void* stream) {
    if (a.rows == 0) return 0;
    if (in_packs(a))
        start<4>(a, stream);
    else
        start<1>(a, stream);
    return launched();
}

}  // namespace fastnn

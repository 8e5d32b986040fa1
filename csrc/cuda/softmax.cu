// Softmax cross-entropy with its gradient. Sixteen threads have a row, as sixteen lanes have on the CPU
// (cpu/softmax.cpp): classes go to them in order, and they fold in halves. exp(z) is computed again for the
// gradient: cheaper than writing and reading it.
#include "core/functions.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

constexpr int kLanes = 16;
constexpr int kRowThreads = 128;

// The sum, or the largest, of sixteen neighbouring threads, on each of them.
FASTNN_RULE unsigned row_mask() { return 0xffffu << (threadIdx.x & kLanes); }
FASTNN_RULE float row_sum(float x) {
#pragma unroll
    for (int half = kLanes / 2; half > 0; half /= 2) x = x + __shfl_xor_sync(row_mask(), x, half);
    return x;
}
FASTNN_RULE float row_max(float x) {
#pragma unroll
    for (int half = kLanes / 2; half > 0; half /= 2) x = max_(x, __shfl_xor_sync(row_mask(), x, half));
    return x;
}

template <bool kIds>
__global__ void __launch_bounds__(kRowThreads) softmax(SoftmaxArgs a) {
    const Index row = (Index{blockIdx.x} * kRowThreads + threadIdx.x) / kLanes;
    const Index lane = threadIdx.x % kLanes;
    if (row >= a.rows) return;  // all sixteen
    const float* const x = a.logits + row * a.logits_row;
    const float* const probabilities = kIds ? nullptr : a.probabilities + row * a.probabilities_row;
    float* const d = a.dlogits + row * a.cols;
    const Index label = kIds ? a.labels[row] : 0;
    if (kIds && label == kIgnoredLabel) {
        for (Index j = lane; j < a.cols; j += kLanes) d[j] = 0.0f;
        if (lane == 0) a.row_loss[row] = 0.0;
        return;
    }
    const auto target = [&](Index j) { return kIds ? a.share : fma(a.keep, probabilities[j], a.share); };

    float top = -__builtin_inff();
    for (Index j = lane; j < a.cols; j += kLanes) top = max_(x[j], top);
    top = row_max(top);

    float total = 0.0f, mass = 0.0f, product = 0.0f;
    for (Index j = lane; j < a.cols; j += kLanes) {
        total = total + exp_minus(top - x[j]);
        const float t = target(j);
        mass = mass + t;
        product = product + t * (x[j] - top);
    }
    total = row_sum(total);
    const bool products = !kIds || a.share != 0.0f;
    mass = kIds && !products ? 0.0f : row_sum(mass);
    product = products ? row_sum(product) : 0.0f;
    const float all = kIds ? 1.0f : mass;
    const float weight = a.weight != nullptr ? a.weight[row] : a.scale;
    const float factor = 1.0f / total * all * weight;
    double loss = static_cast<double>(log(total)) * static_cast<double>(all) - static_cast<double>(product);

    for (Index j = lane; j < a.cols; j += kLanes) {
        float g = fma(exp_minus(top - x[j]), factor, target(j) * -weight);
        if (kIds && j == label) {
            g = g - a.keep * weight;
            loss -= static_cast<double>(a.keep) * static_cast<double>(x[j] - top);
        }
        d[j] = g;
    }
    // The thread that has the label has its term. A label beyond the classes, which nobody has, gives NaN.
    const bool valid = !kIds || (label >= 0 && label < a.cols);
    if (lane == (kIds && valid ? label % kLanes : 0)) a.row_loss[row] = valid ? loss : __builtin_nan("");
}

}  // namespace

int cuda_softmax_cross_entropy(const SoftmaxArgs& a, void* stream) {
    if (a.rows == 0) return 0;
    const unsigned blocks = blocks_for(a.rows, kRowThreads / kLanes);
    if (a.labels != nullptr)
        FASTNN_LAUNCH(softmax<true>, blocks, kRowThreads, stream, a);
    else
        FASTNN_LAUNCH(softmax<false>, blocks, kRowThreads, stream, a);
    return launched();
}

}  // namespace fastnn

// Softmax cross-entropy with its gradient, one row after the other.
//
// A row is read once for its maximum and once for exp(x - max), which is kept in the gradient; lanes of
// sixteen classes are summed in order and folded in halves, so a row has the same bits in any batch.
#include <math.h>

#include "cpu/entries.h"
#include "cpu/math.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr Index kChunkElements = 8192;

Index rows_per_chunk(const SoftmaxArgs& a) {
    const Index wanted = kChunkElements / (a.cols > 0 ? a.cols : 1) + 1;
    const Index least = a.rows / 65536 + 1;
    return wanted > least ? wanted : least;
}

}  // namespace

int softmax_cross_entropy_chunks(const SoftmaxArgs& a) {
    const Index per = rows_per_chunk(a);
    return static_cast<int>((a.rows + per - 1) / per);
}

namespace {

// f(j, lanes) over the classes of a row.
template <class F>
FASTNN_INLINE void each_class(Index cols, F f) {
    Index j = 0;
    for (; j + kLanes <= cols; j += kLanes) f(j, kLanes);
    if (j < cols) f(j, static_cast<int>(cols - j));
}

FASTNN_FLAT void softmax_row(const SoftmaxArgs& a, Index i) {
    const float* x = a.logits + i * a.logits_row;
    float* d = a.dlogits + i * a.dlogits_row;

    const Vec lowest = splat(-__builtin_inff());
    Vec top = lowest;
    each_class(a.cols,
               [&](Index j, int n) FASTNN_BODY { top = max_(first_of(vload(x + j, n), lowest, n), top); });
    const float largest = maximum(top);

    Vec total = splat(0.0f);
    each_class(a.cols, [&](Index j, int n) FASTNN_BODY {
        const Vec e = exp(vload(x + j, n) - splat(largest));
        vstore(d + j, e, n);
        total = total + first_of(e, splat(0.0f), n);
    });
    const float denominator = sum(total);
    const double log_denominator = ::log(static_cast<double>(denominator));
    const float inverse = 1.0f / denominator;
    const float weight = a.weight != nullptr ? a.scale * a.weight[i] : a.scale;

    if (a.labels != nullptr) {
        const Index label = a.labels[i];
        const float p = d[label] * inverse;
        a.row_loss[i] = log_denominator - (static_cast<double>(x[label]) - static_cast<double>(largest));
        each_class(a.cols, [&](Index j, int n) FASTNN_BODY {
            vstore(d + j, vload(d + j, n) * splat(inverse) * splat(weight), n);
        });
        d[label] = (p - 1.0f) * weight;
        return;
    }
    const float* t = a.probabilities + i * a.probabilities_row;
    const Vec log_all = splat(static_cast<float>(log_denominator));
    Vec loss = splat(0.0f);
    Vec mass = splat(0.0f);
    each_class(a.cols, [&](Index j, int n) FASTNN_BODY {
        const Vec tj = vload(t + j, n);
        mass = mass + tj;
        const Vec term = tj * (log_all - (vload(x + j, n) - splat(largest)));
        loss = loss + first_of(term, splat(0.0f), n);
    });
    a.row_loss[i] = static_cast<double>(sum(loss));
    const Vec mass_all = splat(sum(mass));
    each_class(a.cols, [&](Index j, int n) FASTNN_BODY {
        const Vec p = vload(d + j, n) * splat(inverse);
        vstore(d + j, (p * mass_all - vload(t + j, n)) * splat(weight), n);
    });
}

}  // namespace

void softmax_cross_entropy(const SoftmaxArgs& a, int chunk, Scratch&) {
    const Index per = rows_per_chunk(a);
    const Index end = (chunk + 1) * per < a.rows ? (chunk + 1) * per : a.rows;
    for (Index i = chunk * per; i < end; ++i) softmax_row(a, i);
}

}  // namespace fastnn::FASTNN_NS

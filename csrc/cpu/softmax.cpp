// Softmax cross-entropy with its gradient, in groups of up to sixteen rows.
//
// A row is read once for its maximum and once for exp(x - max), which is kept for the gradient. Classes go to
// sixteen lanes in order, and the lanes are folded in halves: of sixteen rows at once, so that what there is
// one of per row (folds, reciprocal, logarithm) costs a vector's share. Rows never meet: each has the same
// bits in any batch.
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/math.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr Index kChunkElements = 1024;
constexpr Index kGroupElements = 4096;  // the logits of a group and their gradient stay in L1

Index rows_per_group(const SoftmaxArgs& a) { return least(most(kGroupElements / a.cols, 1), kLanes); }

Index rows_per_chunk(const SoftmaxArgs& a) {
    return round_up(most(kChunkElements / a.cols, a.rows / 65536 + 1), rows_per_group(a));
}

}  // namespace

int softmax_cross_entropy_chunks(const SoftmaxArgs& a) {
    return static_cast<int>(ceil_div(a.rows, rows_per_chunk(a)));
}

namespace {

FASTNN_INLINE Vec sums(const Vec (&of_rows)[kLanes]) {
    return fold_each(of_rows, [](Reg x, Reg y) FASTNN_BODY { return x + y; });
}

// With t_c the targets (smoothed), z_c = x_c - max x, e_c = exp(z_c), by row:
// loss = log(sum e) * sum t - sum t z, gradient = weight * (e / sum e * sum t - t).
template <bool kIds>
FASTNN_FLAT void softmax_group(const SoftmaxArgs& args, Index first, int rows) {
    const SoftmaxArgs a = args;  // a copy: stores cannot change it, so masks and strides stay in registers
    const auto logits = [&](int r) FASTNN_BODY { return a.logits + (first + r) * a.logits_row; };
    const auto gradient = [&](int r) FASTNN_BODY { return a.dlogits + (first + r) * a.cols; };
    const auto targets = [&](int r)
                             FASTNN_BODY { return a.probabilities + (first + r) * a.probabilities_row; };
    const Vec zero = splat(0.0f);
    const Vec lowest = splat(-__builtin_inff());
    const Vec keep = splat(a.keep);
    const Vec share = splat(a.share);
    Vec part[kLanes];
    for (Vec& p : part) p = zero;  // also of the rows that a short group lacks

    alignas(64) float largest[kLanes];
    for (int r = 0; r < rows; ++r) {
        Vec top = lowest;
        each_vector(0, a.cols, [&, x = logits(r)](Index j, int n) FASTNN_BODY {
            top = max_(first_of(vload(x + j, n), lowest, n), top);
        });
        part[r] = top;
    }
    vstore(largest, fold_each(part, [](Reg x, Reg y) FASTNN_BODY { return max_(x, y); }));

    alignas(64) float tail[kLanes][kLanes];  // exp of the last classes of a row, fewer than sixteen
    Vec mass[kLanes], product[kLanes];
    for (int r = 0; r < kLanes; ++r) mass[r] = product[r] = zero;
    const bool products = !kIds || a.share != 0.0f;
    for (int r = 0; r < rows; ++r) {
        const float* x = logits(r);
        float* d = gradient(r);
        const Vec top = splat(largest[r]);
        Vec total = zero;
        each_vector(0, a.cols, [&](Index j, int n) FASTNN_BODY {
            const Vec e = exp_minus(top - vload(x + j, n));
            if (n == kLanes)
                vstore(d + j, e);
            else
                vstore(tail[r], e);
            total = total + first_of(e, zero, n);
        });
        part[r] = total;
        if (!products) continue;
        Vec t_sum = zero;
        Vec tz_sum = zero;
        each_vector(0, a.cols, [&](Index j, int n) FASTNN_BODY {
            const Vec z = vload(x + j, n) - top;
            const Vec t = kIds ? share : fma(keep, vload(targets(r) + j, n), share);
            t_sum = t_sum + first_of(t, zero, n);
            tz_sum = tz_sum + first_of(t * z, zero, n);
        });
        mass[r] = t_sum;
        product[r] = tz_sum;
    }

    alignas(64) float factor[kLanes], weight[kLanes], log_total[kLanes], mass_of[kLanes], product_of[kLanes];
    const Vec total = sums(part);
    const Vec all = kIds ? splat(1.0f) : sums(mass);
    const Vec w = a.weight != nullptr ? vload(a.weight + first, rows) : splat(a.scale);
    vstore(weight, w);
    vstore(factor, splat(1.0f) / total * all * w);
    vstore(log_total, log(total));
    vstore(mass_of, all);
    vstore(product_of, sums(product));

    const float* end = gradient(rows - 1) + a.cols;
    for (int r = 0; r < rows; ++r) {
        const Index row = first + r;
        const Index label = kIds ? a.labels[row] : 0;
        float* d = gradient(r);
        if (label == kIgnoredLabel) {
            each_vector(0, a.cols, [&](Index j, int n) FASTNN_BODY { vstore(d + j, zero, n); });
            a.row_loss[row] = 0.0;
            continue;
        }
        const Vec minus_weight = splat(-weight[r]);
        each_vector(0, a.cols, [&](Index j, int n) FASTNN_BODY {
            const Vec e = vload(n == kLanes ? d + j : tail[r]);
            const Vec t = kIds ? share : fma(keep, vload(targets(r) + j, n), share);
            const Vec g = fma(e, splat(factor[r]), t * minus_weight);
            // Short rows are written whole, over the start of rows that come later: a masked store costs
            // more than all the rest of a row.
            if (n == kLanes || (a.cols < kLanes && d + kLanes <= end))
                vstore(d + j, g);
            else
                vstore(d + j, g, n);
        });
        double loss = static_cast<double>(log_total[r]) * static_cast<double>(mass_of[r]) -
                      static_cast<double>(product_of[r]);
        if constexpr (kIds) {
            const float z = logits(r)[label] - largest[r];
            loss -= static_cast<double>(a.keep) * static_cast<double>(z);
            d[label] -= a.keep * weight[r];
        }
        a.row_loss[row] = loss;
    }
}

}  // namespace

void softmax_cross_entropy(const SoftmaxArgs& a, int chunk, Scratch&) {
    const Index per = rows_per_chunk(a);
    const Index group = rows_per_group(a);
    const Index end = least((chunk + 1) * per, a.rows);
    for (Index i = chunk * per; i < end; i += group) {
        const int rows = static_cast<int>(least(group, end - i));
        if (a.labels != nullptr)
            softmax_group<true>(a, i, rows);
        else
            softmax_group<false>(a, i, rows);
    }
}

}  // namespace fastnn::FASTNN_NS

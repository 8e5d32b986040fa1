// Metrics of a batch, added to those of the batches before it in float64 and in the order of the rows. What
// they mean stands in fastnn._scores, which does the same with whole arrays.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

// As NumPy's argmax: the first of the largest, the first NaN where there is one.
FASTNN_RULE Index first_largest(const float* x, Index n) {
    Index best = 0;
    for (Index i = 0; i < n; ++i) {
        if (x[i] != x[i]) return i;
        if (x[i] > x[best]) best = i;
    }
    return best;
}

// The share of a row's outputs on the target's side of 1/2.
FASTNN_RULE double sides_of_row(const float* pred, const float* target, Index cols) {
    Index hits = 0;
    for (Index j = 0; j < cols; ++j) hits += (pred[j] > 0.0f) == (target[j] > 0.5f);
    return static_cast<double>(hits) / static_cast<double>(cols);
}

// A batch of weight `added` joins the columns first ... first + count (at most kAtOnce) of sums: the weight
// (which stays), then by output the residual squares, the absolute residuals, the mean of the targets and
// their squares about it.
template <Index kAtOnce, class T>
FASTNN_RULE void add_column_squares(const T* pred, const T* target, const T* weight, Index rows, Index cols,
                                    Index first, Index count, double added, double* sums) {
    const double whole = sums[0] + added;
    double *residual = sums + 1 + first, *absolute = residual + cols, *mean = absolute + cols;
    double* total = mean + cols;
    double squares[kAtOnce], gaps[kAtOnce], centre[kAtOnce];
    for (Index j = 0; j < count; ++j) {
        squares[j] = residual[j];
        gaps[j] = absolute[j];
        centre[j] = 0.0;
    }
    for (Index i = 0; i < rows; ++i) {
        const double w = weight != nullptr ? static_cast<double>(weight[i]) : 1.0;
        const T *truths = target + i * cols + first, *found = pred + i * cols + first;
        for (Index j = 0; j < count; ++j) {
            const auto truth = static_cast<double>(truths[j]);
            const double gap = static_cast<double>(found[j]) - truth;
            squares[j] += w * (gap * gap);
            gaps[j] += w * __builtin_fabs(gap);
            centre[j] += w * truth;
        }
    }
    for (Index j = 0; j < count; ++j) {
        residual[j] = squares[j];
        absolute[j] = gaps[j];
        centre[j] /= added;
        squares[j] = 0.0;
    }
    for (Index i = 0; i < rows; ++i) {
        const double w = weight != nullptr ? static_cast<double>(weight[i]) : 1.0;
        const T* truths = target + i * cols + first;
        for (Index j = 0; j < count; ++j) {
            const double off = static_cast<double>(truths[j]) - centre[j];
            squares[j] += w * (off * off);
        }
    }
    for (Index j = 0; j < count; ++j) {
        const double apart = centre[j] - mean[j];
        total[j] += squares[j] + apart * apart * (sums[0] * added / whole);
        mean[j] += apart * (added / whole);
    }
}

#if !defined(__CUDACC__)  // there csrc/cuda/step.cu puts the rows together

// What rows of scores are compared with: class ids (kIgnoredLabel: not counted) or, without them, the largest
// of a row of probabilities.
struct Hits {
    const float* pred = nullptr;
    Index pred_row = 0;
    const std::int64_t* labels = nullptr;
    const float* target = nullptr;
    Index target_row = 0;
    const float* weight = nullptr;
    Index rows = 0, cols = 0;
};
static_assert(are_indices(&Hits::pred_row, &Hits::target_row, &Hits::rows, &Hits::cols));

// Whether first_largest is `at`, four numbers at a time: 1.5 us for 200 rows of 10, where one by one they
// took 3.7.
inline bool is_first_largest(const float* x, Index n, Index at) {
    typedef float Four __attribute__((vector_size(16)));
    typedef std::int32_t Ids __attribute__((vector_size(16)));
    const float best = x[at];
    if (n < 4 || best != best) return first_largest(x, n) == at;
    Ids beaten{};
    const auto compare = [&](Index i) {
        Four four;
        std::memcpy(&four, x + i, sizeof four);
        const Ids before = Ids{0, 1, 2, 3} < static_cast<std::int32_t>(at - i);
        beaten |= ~(four <= best) | ((four == best) & before);
    };
    for (Index i = 0; i + 4 <= n; i += 4) compare(i);
    compare(n - 4);  // of the last, some once more
    return (beaten[0] | beaten[1] | beaten[2] | beaten[3]) == 0;
}

// sums: the weight of the hits, the weight.
inline void add_hits(const Hits& of, double* sums) {
    for (Index i = 0; i < of.rows; ++i) {
        const Index truth =
            of.labels != nullptr ? of.labels[i] : first_largest(of.target + i * of.target_row, of.cols);
        if (truth == kIgnoredLabel) continue;
        const double w = of.weight != nullptr ? static_cast<double>(of.weight[i]) : 1.0;
        if (is_first_largest(of.pred + i * of.pred_row, of.cols, truth)) sums[0] += w;
        sums[1] += w;
    }
}

// sums: the weighted shares, the weight.
inline void add_sides(const float* pred, const float* target, const float* weight, Index rows, Index cols,
                      double* sums) {
    for (Index i = 0; i < rows; ++i) {
        const double w = weight != nullptr ? static_cast<double>(weight[i]) : 1.0;
        sums[0] += w * sides_of_row(pred + i * cols, target + i * cols, cols);
        sums[1] += w;
    }
}

template <class T>
void add_squares(const T* pred, const T* target, const T* weight, Index rows, Index cols, double* sums) {
    double added = 0.0;
    for (Index i = 0; i < rows; ++i) added += weight != nullptr ? static_cast<double>(weight[i]) : 1.0;
    if (added == 0.0) return;
    Index first =
        0;  // of the outputs that are left; their sums of a batch stay in registers where they are few
    const auto each = [&](auto at_once) {
        constexpr Index count = at_once;
        for (; first + count <= cols; first += count)
            add_column_squares<count>(pred, target, weight, rows, cols, first, count, added, sums);
    };
    each(std::integral_constant<Index, 16>{});
    each(std::integral_constant<Index, 4>{});
    each(std::integral_constant<Index, 1>{});
    sums[0] += added;
}

#endif

}  // namespace fastnn

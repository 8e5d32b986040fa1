#include <optional>
#include <string>
#include <vector>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/labels.h"
#include "bind/run.h"
#include "bind/samples.h"
#include "bind/scalars.h"
#include "core/scores.h"

namespace fastnn::bind {
namespace {

constexpr const char* kScoreHitsDoc =
    R"(score_hits(pred, target, sums, *, sample_weight=None, ignore_index=None)
--

Adds a batch to the accuracy of classes: to ``sums`` (weight of hits, weight). target: class ids, or probabilities.
)";

constexpr const char* kScoreSidesDoc =
    R"(score_sides(pred, target, sums, *, sample_weight=None)
--

The same for outputs that are yes or no: those on the target's side of 1/2 are hits.
)";

constexpr const char* kScoreSquaresDoc =
    R"(score_squares(pred, target, sums, *, sample_weight=None)
--

Adds a batch (float32 or float64 throughout) to what regressions are scored by: ``sums`` holds the weight, then by
output the residual squares, the absolute residuals, the mean of the targets and their squares about it.
)";

double* sums_of(Call& call, const Value& value, Index count) {
    return const_cast<double*>(read_doubles(call, value, count));
}

const float* weight_of(Call& call, const Value& value, Index rows) {
    return value.given() ? read_vector(call, value, rows).data : nullptr;
}

// `add` asks nobody and cannot fail.
template <class Add>
void add_batch(Index rows, Index cols, double ns_each, Add add) {
    without_gil(ns_each * static_cast<double>(rows) * static_cast<double>(cols), [&] {
        add();
        return true;
    });
}

PyObject* score_hits(Call& call) {
    enum { kPred, kTarget, kSums, kSampleWeight, kIgnoreIndex };
    const Input pred = read_matrix(call, call[kPred], Layout::rows);
    const Index n = pred.rows;
    std::optional<std::int64_t> ignored;
    if (call[kIgnoreIndex].given()) ignored = integer(call, call[kIgnoreIndex]);
    Hits hits{.pred = pred.data, .pred_row = pred.row, .rows = n, .cols = pred.cols};
    std::vector<std::int64_t> labels;
    if (are_class_ids(call, call[kTarget], n)) {
        labels.resize(static_cast<std::size_t>(n));
        read_class_ids(call, call[kTarget], n, pred.cols, ignored, labels.data());
        hits.labels = labels.data();
    } else {
        const Input target = read_matrix(call, call[kTarget], Layout::rows);
        require_shape(call, call[kTarget], target.shape, pred.shape);
        hits.target = target.data;
        hits.target_row = target.row;
    }
    hits.weight = weight_of(call, call[kSampleWeight], n);
    double* sums = sums_of(call, call[kSums], 2);
    add_batch(n, pred.cols, 1.0, [&] { add_hits(hits, sums); });
    Py_RETURN_NONE;
}

PyObject* score_sides(Call& call) {
    enum { kPred, kTarget, kSums, kSampleWeight };
    const Input pred = read_flat(call, call[kPred]);
    const Input target = read_flat(call, call[kTarget]);
    require_shape(call, call[kTarget], target.shape, pred.shape);
    if (pred.shape.nd != 2) call.value_error(call[kPred], "must have two dimensions");
    const Index rows = pred.shape.dims[0], cols = pred.shape.dims[1];
    const float* weight = weight_of(call, call[kSampleWeight], rows);
    double* sums = sums_of(call, call[kSums], 2);
    add_batch(rows, cols, 1.0, [&] { add_sides(pred.data, target.data, weight, rows, cols, sums); });
    Py_RETURN_NONE;
}

PyObject* score_squares(Call& call) {
    enum { kPred, kTarget, kSums, kSampleWeight };
    const Samples pred = read_samples(call, call[kPred]);
    const Samples target = read_samples(call, call[kTarget]);
    require_shape(call, call[kTarget], target.shape, pred.shape);
    if (pred.element != target.element || pred.element == Element::uint8 || pred.row != pred.cols ||
        target.row != target.cols) {
        call.type_error(call[kTarget], "and pred must be contiguous and of the same float type");
    }
    double* sums = sums_of(call, call[kSums], 1 + 4 * pred.cols);
    const auto add = [&](auto* weight) {
        using T = std::remove_pointer_t<decltype(weight)>;
        add_batch(pred.rows, pred.cols, 2.0, [&] {
            add_squares(static_cast<T*>(pred.data), static_cast<T*>(target.data), weight, pred.rows,
                        pred.cols, sums);
        });
    };
    const Value& weight = call[kSampleWeight];
    if (pred.element == Element::float32)
        add(weight_of(call, weight, pred.rows));
    else
        add(weight.given() ? read_doubles(call, weight, pred.rows) : nullptr);
    Py_RETURN_NONE;
}

}  // namespace

void bind_scores(py::module_& m) {
    add_function<score_hits>(m, kScoreHitsDoc);
    add_function<score_sides>(m, kScoreSidesDoc);
    add_function<score_squares>(m, kScoreSquaresDoc);
}

}  // namespace fastnn::bind

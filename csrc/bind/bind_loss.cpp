#include <cmath>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/labels.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kSoftmaxDoc = R"(softmax_cross_entropy(logits, labels, *, sample_weight=None)
--

Softmax and cross-entropy in one pass, with the gradient.

With ``p = softmax(logits)`` by rows, targets ``t`` and weights ``w`` (1 without ``sample_weight``):
``value = sum_i w_i l_i / sum(w)``, ``l_i = -sum_c t_ic log p_ic``, and
``dlogits_i = w_i / sum(w) * (p_i * sum_c t_ic - t_i)``.

Shapes: ``logits`` and ``dlogits`` (n, C); ``labels`` (n,) class ids of any integer dtype, or (n, C) float32
probabilities; ``sample_weight`` (n,), finite, not negative, not all zero.

Returns ``(value, dlogits)``: a float, and a new float32 array.

Raises TypeError for another dtype, ValueError for shapes that do not fit, no rows or no classes, a class id
outside ``0 .. C-1`` (naming its index and value), and bad weights.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dlogits = ops.softmax_cross_entropy(np.zeros((1, 2), np.float32), np.array([1]))
>>> round(value, 4)
0.6931
>>> dlogits
array([[ 0.5, -0.5]], dtype=float32)
)";

double total_weight(const Call& call, const Value& value, const Input& weight) {
    double total = 0;
    for (Index i = 0; i < weight.cols; ++i) {
        const double w = static_cast<double>(weight.data[i]);
        if (!(w >= 0) || std::isinf(w)) {
            Value item = value;
            item.index = i;
            call.value_error(item, "must be finite and at least 0, got " + repr_of(py::float_(w).ptr()));
        }
        total += w;
    }
    if (!std::isfinite(static_cast<float>(1.0 / total))) {
        call.value_error(value,
                         "must not be all zero or vanish, got a sum of " + repr_of(py::float_(total).ptr()));
    }
    return total;
}

double weighted_mean(const double* row_loss, const float* weight, Index n, double total) {
    double sum = 0;
    for (Index i = 0; i < n; ++i)
        sum += weight == nullptr ? row_loss[i] : static_cast<double>(weight[i]) * row_loss[i];
    return sum / total;
}

PyObject* softmax_cross_entropy(Call& call) {
    enum { kLogits, kLabels, kSampleWeight };
    const Input logits = read_matrix(call, call[kLogits], Layout::rows);
    const Index n = logits.rows;
    const Index classes = logits.cols;
    if (n == 0 || classes == 0) {
        call.value_error(call[kLogits],
                         "must have at least one row and one class, got shape " + text_of(logits.shape));
    }
    const bool ids = are_class_ids(call, call[kLabels], n);
    Input probabilities;
    if (!ids) {
        probabilities = read_matrix(call, call[kLabels], Layout::rows);
        require_shape(call, call[kLabels], probabilities.shape, logits.shape);
    }
    Input weight;
    double total = static_cast<double>(n);
    if (call[kSampleWeight].given()) {
        weight = read_vector(call, call[kSampleWeight], n);
        total = total_weight(call, call[kSampleWeight], weight);
    }
    Output dlogits = write_rows(call, Value{Py_None, "dlogits"}, logits.shape);

    // Doubles first, then the ids: both of 8 bytes.
    static_assert(sizeof(double) == 2 * sizeof(float) && sizeof(std::int64_t) == 2 * sizeof(float));
    float* memory = workspace((ids ? 4 : 2) * n);
    auto* row_loss = reinterpret_cast<double*>(memory);
    auto* labels = reinterpret_cast<std::int64_t*>(memory + 2 * n);
    if (ids) read_class_ids(call, call[kLabels], n, classes, labels);

    const SoftmaxArgs args{.logits = logits.data,
                           .logits_row = logits.row,
                           .labels = ids ? labels : nullptr,
                           .probabilities = probabilities.data,
                           .probabilities_row = probabilities.row,
                           .weight = weight.data,
                           .dlogits = dlogits.data,
                           .dlogits_row = dlogits.row,
                           .row_loss = row_loss,
                           .rows = n,
                           .cols = classes,
                           .scale = static_cast<float>(1.0 / total)};
    Tasks tasks;
    tasks.add(kernels().softmax_cross_entropy, args);
    tasks.run(stream_ns(4.0 * static_cast<double>(n) * static_cast<double>(classes)));
    const double value = weighted_mean(row_loss, weight.data, n, total);
    return results(value, dlogits).release().ptr();
}

}  // namespace

void bind_loss(py::module_& m) { add_function<softmax_cross_entropy>(m, kSoftmaxDoc); }

}  // namespace fastnn::bind

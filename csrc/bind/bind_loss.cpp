#include <cmath>
#include <optional>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/labels.h"
#include "bind/loss_docs.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"
#include "core/loss_sums.h"

namespace fastnn::bind {
namespace {

static_assert(sizeof(double) == 2 * sizeof(float) && sizeof(std::int64_t) == 2 * sizeof(float));

PyObject* softmax_cross_entropy(Call& call) {
    enum { kLogits, kLabels, kSampleWeight, kLabelSmoothing, kIgnoreIndex };
    const Input logits = read_matrix(call, call[kLogits], Layout::rows);
    const Index n = logits.rows;
    const Index classes = logits.cols;
    if (n == 0 || classes == 0) {
        call.value_error(call[kLogits],
                         "must have at least one row and one class, got shape " + text_of(logits.shape));
    }
    const double smoothing = in_unit_range(call, call[kLabelSmoothing]);
    std::optional<std::int64_t> ignored_label;
    if (call[kIgnoreIndex].given()) ignored_label = integer(call, call[kIgnoreIndex]);
    const bool ids = are_class_ids(call, call[kLabels], n);
    Input probabilities;
    if (!ids) {
        if (ignored_label) call.value_error(call[kIgnoreIndex], "needs class ids, got probabilities");
        probabilities = read_matrix(call, call[kLabels], Layout::rows);
        require_shape(call, call[kLabels], probabilities.shape, logits.shape);
    }
    Input weight;
    if (call[kSampleWeight].given()) weight = read_vector(call, call[kSampleWeight], n);
    Output dlogits = write_rows(call, Value{Py_None, "dlogits"}, logits.shape);

    float* memory = workspace((ids ? 5 : 3) * n);
    auto* row_loss = reinterpret_cast<double*>(memory);
    auto* labels = ids ? reinterpret_cast<std::int64_t*>(memory + 2 * n) : nullptr;
    float* scaled_weight = memory + (ids ? 4 : 2) * n;
    Index counted = n;
    if (ids) counted -= read_class_ids(call, call[kLabels], n, classes, ignored_label, labels);
    if (counted == 0) {
        call.value_error(call[kLabels],
                         "are all " + std::to_string(*ignored_label) +
                             ", which is ignored, and no row is left to average; skip the batch");
    }
    double total = static_cast<double>(counted);
    if (weight.data != nullptr) {
        total = total_weight(call, call[kSampleWeight], weight, labels);
        scale_weights(weight.data, n, 1.0 / total, scaled_weight);
    }
    const SoftmaxArgs args{.logits = logits.data,
                           .logits_row = logits.row,
                           .labels = labels,
                           .probabilities = probabilities.data,
                           .probabilities_row = probabilities.row,
                           .weight = weight.data != nullptr ? scaled_weight : nullptr,
                           .dlogits = dlogits.data,
                           .row_loss = row_loss,
                           .rows = n,
                           .cols = classes,
                           .scale = static_cast<float>(1.0 / total),
                           .keep = static_cast<float>(1.0 - smoothing),
                           .share = static_cast<float>(smoothing / static_cast<double>(classes))};
    Tasks tasks;
    tasks.add(kernels().softmax_cross_entropy, args);
    tasks.run(softmax_ns(n, classes));
    return results(weighted_sum(row_loss, weight.data, n) / total, dlogits).release().ptr();
}

// An elementwise loss of arguments 0 (pred) and 1 (target): factor / sum(w) * sum of w l over all outputs,
// where `mean` divides the factor by the number of outputs.
PyObject* point_loss(Call& call, PointLossArgs args, int sample_weight, double factor, bool mean) {
    const Input pred = read_flat(call, call[0]);
    if (pred.shape.nd == 0 || pred.cols == 0) {
        call.value_error(call[0],
                         "must have at least one row and one output, got shape " + text_of(pred.shape));
    }
    const Input target = read_flat(call, call[1]);
    require_shape(call, call[1], target.shape, pred.shape);
    args.pred = pred.data;
    args.target = target.data;
    args.rows = pred.shape.dims[0];
    args.cols = pred.cols / args.rows;
    Input weight;
    double total = static_cast<double>(args.rows);
    if (call[sample_weight].given()) {
        weight = read_vector(call, call[sample_weight], args.rows);
        total = total_weight(call, call[sample_weight], weight, nullptr);
        args.weight = weight.data;  // decides about the chunks
    }
    const double scale = factor / (mean ? total * static_cast<double>(args.cols) : total);
    args.scale = static_cast<float>(scale);
    Output dpred = write_flat(call, Value{Py_None, "dpred"}, pred.shape);
    args.dpred = dpred.data;

    const Kernel<PointLossArgs>& kernel = kernels().point_loss;
    const int chunks = kernel.chunks(args);
    float* memory = workspace(2 * Index{chunks} + args.rows);
    args.sums = reinterpret_cast<double*>(memory);
    if (weight.data != nullptr) {
        scale_weights(weight.data, args.rows, scale, memory + 2 * chunks);
        args.weight = memory + 2 * chunks;
    }
    Tasks tasks;
    tasks.add(kernel, args);
    const double cost = args.kind == PointLoss::logistic ? 7.0 : 3.0;  // of exp and two quotients: measured
    tasks.run(stream_ns(cost * static_cast<double>(pred.cols)));
    const double sum = sum_of_chunks(args.sums, chunks);
    return results(weight.data != nullptr ? sum : sum * scale, dpred).release().ptr();
}

PyObject* mse(Call& call) {
    enum { kPred, kTarget, kSampleWeight };
    PointLossArgs args{};
    args.kind = PointLoss::squared;
    return point_loss(call, args, kSampleWeight, 2.0, true);
}

PyObject* quadratic_cost(Call& call) {
    enum { kPred, kTarget, kSampleWeight };
    PointLossArgs args{};
    args.kind = PointLoss::squared;
    return point_loss(call, args, kSampleWeight, 1.0, false);
}

PyObject* huber(Call& call) {
    enum { kPred, kTarget, kDelta, kSampleWeight };
    PointLossArgs args{};
    args.kind = PointLoss::huber;
    args.delta = static_cast<float>(positive(call, call[kDelta]));
    return point_loss(call, args, kSampleWeight, 1.0, true);
}

PyObject* sigmoid_cross_entropy(Call& call) {
    enum { kLogits, kTargets, kSampleWeight };
    PointLossArgs args{};
    args.kind = PointLoss::logistic;
    return point_loss(call, args, kSampleWeight, 1.0, true);
}

}  // namespace

void bind_loss(py::module_& m) {
    add_function<softmax_cross_entropy>(m, kSoftmaxDoc);
    add_function<sigmoid_cross_entropy>(m, kSigmoidDoc);
    add_function<mse>(m, kMseDoc);
    add_function<quadratic_cost>(m, kQuadraticDoc);
    add_function<huber>(m, kHuberDoc);
}

}  // namespace fastnn::bind

#include <cmath>
#include <optional>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/labels.h"
#include "bind/loss_docs.h"
#include "bind/loss_ends.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"
#include "core/loss_sums.h"

namespace fastnn::bind {
namespace {

static_assert(sizeof(double) == 2 * sizeof(float) && sizeof(std::int64_t) == 2 * sizeof(float));

double softmax_on_device(Call& call, SoftmaxArgs args, LossEnds& ends) {
    args.weight = ends.begin(1.0, 1.0);
    args.row_loss = call.device()->take<double>(args.rows);
    call.device()->launch(args);
    return ends.end(args.row_loss, args.rows, true, 0.0);
}

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

    SoftmaxArgs args{.logits = logits.data,
                     .logits_row = logits.row,
                     .labels = nullptr,
                     .probabilities = probabilities.data,
                     .probabilities_row = probabilities.row,
                     .weight = nullptr,
                     .dlogits = dlogits.data,
                     .row_loss = nullptr,
                     .rows = n,
                     .cols = classes,
                     .scale = 0.0f,
                     .keep = static_cast<float>(1.0 - smoothing),
                     .share = static_cast<float>(smoothing / static_cast<double>(classes))};
    if (call.device() != nullptr) [[unlikely]] {
        LossEnds ends(call, n, call[kSampleWeight], weight);
        if (ids) args.labels = ends.take_labels(call[kLabels], classes, ignored_label);
        return results(softmax_on_device(call, args, ends), dlogits).release().ptr();
    }
    float* memory = workspace((ids ? 5 : 3) * n);
    args.row_loss = reinterpret_cast<double*>(memory);
    auto* labels = ids ? reinterpret_cast<std::int64_t*>(memory + 2 * n) : nullptr;
    float* scaled_weight = memory + (ids ? 4 : 2) * n;
    Index counted = n;
    if (ids) counted -= read_class_ids(call, call[kLabels], n, classes, ignored_label, labels);
    check_any_counted(call, call[kLabels], counted, ignored_label);
    double total = static_cast<double>(counted);
    if (weight.data != nullptr) {
        total = total_weight(call, call[kSampleWeight], weight, labels);
        scale_weights(weight.data, n, 1.0 / total, scaled_weight);
        args.weight = scaled_weight;
    }
    args.labels = labels;
    args.scale = static_cast<float>(1.0 / total);
    Tasks tasks;
    tasks.add(kernels().softmax_cross_entropy, args);
    tasks.run(softmax_ns(n, classes));
    return results(weighted_sum(args.row_loss, weight.data, n) / total, dlogits).release().ptr();
}

double point_loss_on_device(Call& call, PointLossArgs args, LossEnds& ends, double factor, double divisor,
                            int chunks) {
    const bool weighted = args.weight != nullptr;
    const float* const scaled = ends.begin(factor, divisor);
    if (weighted) args.weight = scaled;
    const double scale = factor / (static_cast<double>(args.rows) * divisor);
    args.scale = static_cast<float>(scale);
    args.sums = call.device()->take<double>(chunks);
    call.device()->launch(args);
    return ends.end(args.sums, chunks, false, weighted ? 1.0 : scale);
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
    const Value& weight_value = call[sample_weight];
    if (weight_value.given()) weight = read_vector(call, weight_value, args.rows);
    args.weight = weight.data;  // decides about the chunks
    Output dpred = write_flat(call, Value{Py_None, "dpred"}, pred.shape);
    args.dpred = dpred.data;
    const double divisor = mean ? static_cast<double>(args.cols) : 1.0;
    const Kernel<PointLossArgs>& kernel = kernels().point_loss;
    const int chunks = kernel.chunks(args);
    if (call.device() != nullptr) [[unlikely]] {
        LossEnds ends(call, args.rows, weight_value, weight);
        return results(point_loss_on_device(call, args, ends, factor, divisor, chunks), dpred)
            .release()
            .ptr();
    }
    const double total = weight.data != nullptr ? total_weight(call, weight_value, weight, nullptr)
                                                : static_cast<double>(args.rows);
    const double scale = factor / (total * divisor);
    args.scale = static_cast<float>(scale);
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
    add_function<softmax_cross_entropy>(m, kSoftmaxDoc, Places::device_too);
    add_function<sigmoid_cross_entropy>(m, kSigmoidDoc, Places::device_too);
    add_function<mse>(m, kMseDoc, Places::device_too);
    add_function<quadratic_cost>(m, kQuadraticDoc, Places::device_too);
    add_function<huber>(m, kHuberDoc, Places::device_too);
}

}  // namespace fastnn::bind

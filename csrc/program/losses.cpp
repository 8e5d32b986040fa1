#include "program/losses.h"

#include "core/class_id.h"
#include "core/loss_sums.h"
#include "core/scores.h"
#include "core/sums.h"

namespace fastnn::program {
namespace {

// Class ids as the kernel takes them; the number of ignored ones, or -1 for one that is no class.
template <class T>
Index take_ids(const Targets& from, Index n, const SoftmaxLoss& loss, std::int64_t* out) {
    const auto* labels = static_cast<const T*>(from.labels);
    Index ignored = 0;
    for (Index i = 0; i < from.order.next_rows; ++i)
        __builtin_prefetch(labels + from.order.next[i] * from.label_stride, 0, 2);
    for (Index i = 0; i < n; ++i) {
        const Index row = from.order.rows != nullptr ? from.order.rows[i] : i;
        const T given = labels[row * from.label_stride];
        out[i] = class_id(static_cast<std::int64_t>(given), loss.cols, loss.ignores, loss.ignored);
        if (out[i] == kNoClass) return -1;
        ignored += out[i] == kIgnoredLabel;
    }
    return ignored;
}

}  // namespace

bool Loss::take(const Targets& targets, Index rows) {
    rows_ = rows;
    total_weight_ = static_cast<double>(rows);
    if (targets.labels != nullptr && !take_labels(targets, rows)) return false;
    weight_ = nullptr;
    if (targets.weight != nullptr) {
        weight_memory_.resize(static_cast<std::size_t>(rows));
        for (Index i = 0; i < rows; ++i) {
            const float w = targets.weight[targets.order.rows != nullptr ? targets.order.rows[i] : i];
            if (!is_weight(w)) return false;
            weight_memory_[static_cast<std::size_t>(i)] = w;
        }
        weight_ = weight_memory_.data();
    }
    ready();
    return total_weight_ > 0.0;
}

bool SoftmaxLoss::take_labels(const Targets& from, Index n) {
    Index skipped = -1;
    switch (from.label_kind) {
        case Number::int8:
            skipped = take_ids<std::int8_t>(from, n, *this, labels_);
            break;
        case Number::uint8:
            skipped = take_ids<std::uint8_t>(from, n, *this, labels_);
            break;
        case Number::int16:
            skipped = take_ids<std::int16_t>(from, n, *this, labels_);
            break;
        case Number::uint16:
            skipped = take_ids<std::uint16_t>(from, n, *this, labels_);
            break;
        case Number::int32:
            skipped = take_ids<std::int32_t>(from, n, *this, labels_);
            break;
        case Number::uint32:
            skipped = take_ids<std::uint32_t>(from, n, *this, labels_);
            break;
        case Number::int64:
            skipped = take_ids<std::int64_t>(from, n, *this, labels_);
            break;
        case Number::uint64:
            skipped = take_ids<std::uint64_t>(from, n, *this, labels_);
            break;
        default:
            break;
    }
    total_weight_ = static_cast<double>(n - skipped);
    return skipped >= 0;
}

void SoftmaxLoss::prepare(Place& place) {
    float* memory = place.whole(work);
    const Index all = place.total;
    labels_ = reinterpret_cast<std::int64_t*>(memory);
    row_loss_ = reinterpret_cast<double*>(memory + 2 * all);
    scaled_ = memory + 4 * all;
    target_values_ = target == kNone ? nullptr : place.whole(target);
    SoftmaxArgs& args = args_.emplace_back();
    args.logits = place.at(pred);
    args.logits_row = args.probabilities_row = args.cols = cols;
    if (target == kNone)
        args.labels = labels_ + place.begin;
    else
        args.probabilities = place.at(target);
    // On a device always: the rows that count are counted there.
    args.weight = place.weighted || place.device != nullptr ? scaled_ + place.begin : nullptr;
    args.dlogits = place.at(dpred);
    args.row_loss = row_loss_ + place.begin;
    args.rows = place.rows;
    args.keep = static_cast<float>(1.0 - smoothing);
    args.share = static_cast<float>(smoothing / static_cast<double>(cols));
    place.add(place.kernels.softmax_cross_entropy, args);
    const double logits = static_cast<double>(place.rows) * static_cast<double>(cols);
    place.work += {0, 2.0 * logits, softmax_ns(place.rows, cols)};
}

void SoftmaxLoss::describe(StepBeginArgs& begin, StepEndArgs& end) const {
    begin.labels = target == kNone ? labels_ : nullptr;
    begin.classes = cols;
    begin.ignores = ignores;
    begin.ignored = ignored;
    begin.scaled = scaled_;
    begin.factor = begin.divisor = 1.0;
    end.terms = row_loss_;
    end.term_count = begin.rows;
    end.term_weight = begin.weight;
    end.mean_of_terms = true;
    end.score = Score::hits;
    end.labels = begin.labels;
    end.target = target_values_;
}

void SoftmaxLoss::ready() {
    if (weight_ != nullptr) {
        total_weight_ = 0;
        for (Index i = 0; i < rows_; ++i)
            if (target != kNone || labels_[i] != kIgnoredLabel)
                total_weight_ += static_cast<double>(weight_[i]);
        scale_weights(weight_, rows_, 1.0 / total_weight_, scaled_);
    }
    for (SoftmaxArgs& args : args_) args.scale = static_cast<float>(1.0 / total_weight_);
}

double SoftmaxLoss::value() const { return weighted_sum(row_loss_, weight_, rows_) / total_weight_; }

void SoftmaxLoss::score(const float* pred_rows, double* sums) const {
    for (Index i = 0; i < rows_; ++i) {
        const Index truth = target == kNone ? labels_[i] : first_largest(target_values_ + i * cols, cols);
        if (truth == kIgnoredLabel) continue;
        const double w = weight_ != nullptr ? static_cast<double>(weight_[i]) : 1.0;
        if (is_first_largest(pred_rows + i * cols, cols, truth)) sums[0] += w;
        sums[1] += w;
    }
}

const char* ElementwiseLoss::name() const {
    return point_loss == PointLoss::squared ? "squared"
           : point_loss == PointLoss::huber ? "huber"
                                            : "logistic";
}

void ElementwiseLoss::prepare(Place& place) {
    float* memory = place.whole(work);
    scaled_ = memory;
    sums_ = reinterpret_cast<double*>(memory + (place.total + 15) / 16 * 16);
    target_values_ = place.whole(target);
    PointLossArgs& args = args_.emplace_back();
    args.pred = place.at(pred);
    args.target = place.at(target);
    args.weight = place.weighted ? scaled_ + place.begin : nullptr;
    args.dpred = place.at(dpred);
    args.sums = sums_ + chunks_;
    args.rows = place.rows;
    args.cols = cols;
    args.kind = point_loss;
    args.delta = delta;
    args.scale = static_cast<float>(scale_of(static_cast<double>(place.total)));  // on the CPU see ready
    place.add(place.kernels.point_loss, args);
    chunks_ += static_cast<int>(loss_chunks(args));
    const double cost = point_loss == PointLoss::logistic ? 7.0 : 3.0;  // of exp and two quotients: measured
    const double outputs = static_cast<double>(place.rows) * static_cast<double>(cols);
    place.moves(3.0 * outputs, cost * outputs);
}

double ElementwiseLoss::scale_of(double weight) const {
    return factor / (mean ? weight * static_cast<double>(cols) : weight);
}

void ElementwiseLoss::describe(StepBeginArgs& begin, StepEndArgs& end) const {
    begin.scaled = begin.weight != nullptr ? scaled_ : nullptr;
    begin.factor = factor;
    begin.divisor = mean ? static_cast<double>(cols) : 1.0;
    end.terms = sums_;
    end.term_count = chunks_;
    end.scale = begin.weight != nullptr ? 1.0 : scale_of(static_cast<double>(begin.rows));
    end.score = point_loss == PointLoss::logistic ? Score::sides : Score::squares;
    end.target = target_values_;
}

void ElementwiseLoss::ready() {
    if (weight_ != nullptr) {
        total_weight_ = 0;
        for (Index i = 0; i < rows_; ++i) total_weight_ += static_cast<double>(weight_[i]);
    }
    scale_ = scale_of(total_weight_);
    if (weight_ != nullptr) scale_weights(weight_, rows_, scale_, scaled_);
    for (PointLossArgs& args : args_) args.scale = static_cast<float>(scale_);
}

double ElementwiseLoss::value() const {
    const double sum = sum_of_chunks(sums_, chunks_);
    return weight_ != nullptr ? sum : sum * scale_;
}

void ElementwiseLoss::score(const float* pred_rows, double* sums) const {
    if (point_loss == PointLoss::logistic)
        add_sides(pred_rows, target_values_, weight_, rows_, cols, sums);
    else
        add_squares(pred_rows, target_values_, weight_, rows_, cols, sums);
}

}  // namespace fastnn::program

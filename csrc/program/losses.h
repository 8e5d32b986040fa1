// The loss in the middle of a step. What the batch brings (targets, weights) is filled in before each run;
// the value is summed afterwards, in the order of the rows.
#pragma once

#include "program/op.h"

namespace fastnn::program {

class Loss : public Op {
 public:
    Ref pred, dpred;
    Ref target = kNone;  // of values; none: class ids
    Ref work;            // work_floats() for each row and kWorkFloats once
    Index cols;          // outputs of a row

    static constexpr Index kWorkFloats = 16;
    virtual Index work_floats() const = 0;

    Kind kind() const final { return Kind::by_rows; }
    std::vector<Ref> touches() const final { return {pred, dpred, target, work}; }
    // Before a run. False: a label or a weight that is not allowed, or no row that counts.
    bool take(const Targets& targets, Index rows);
    // After a run.
    virtual double value() const = 0;
    double total_weight() const { return total_weight_; }  // the rows that count, or the sum of their weights
    // Adds the batch to the sums of the loss's metrics (fastnn._scores).
    virtual void score(const float* pred, double* sums) const = 0;
    virtual Index score_count() const { return 2; }
    // On a device: what its kernels do in place of `take`, `value` and `score`; begin.rows and begin.weight
    // are set, and `prepare` was called.
    virtual void describe(StepBeginArgs& begin, StepEndArgs& end) const = 0;
    void move(Ref, Index) final {}  // no part of a forward alone

 protected:
    virtual bool take_labels(const Targets&, Index) { return true; }
    virtual void ready() = 0;        // all but the arguments is set
    float* scaled_ = nullptr;        // the weights as the kernels take them, or
    const float* weight_ = nullptr;  // as they were given: of the rows of this batch, null without
    Index rows_ = 0;
    double total_weight_ = 0;
    std::vector<float> weight_memory_;
    const float* target_values_ = nullptr;
};

class SoftmaxLoss final : public Loss {
 public:
    double smoothing;
    bool ignores;
    std::int64_t ignored;

    const char* name() const override { return "cross_entropy"; }
    Index work_floats() const override { return 5; }
    void prepare(Place& place) override;
    void forget() override { args_.clear(); }
    double value() const override;
    void score(const float* pred, double* sums) const override;  // weight of hits, weight
    void describe(StepBeginArgs& begin, StepEndArgs& end) const override;

 protected:
    bool take_labels(const Targets& targets, Index rows) override;
    void ready() override;

 private:
    std::deque<SoftmaxArgs> args_;
    std::int64_t* labels_ = nullptr;
    double* row_loss_ = nullptr;
};

// factor / (sum of w) * sum of w l over all outputs; `mean` also divides by the outputs of a row.
class ElementwiseLoss final : public Loss {
 public:
    PointLoss point_loss;
    double factor;
    bool mean;
    float delta;

    const char* name() const override;
    // A sum for each chunk, which is a row at least or 16384 elements, and a weight.
    Index work_floats() const override { return 3 + 2 * ((cols + 16383) / 16384); }
    void prepare(Place& place) override;
    void forget() override {
        args_.clear();
        chunks_ = 0;
    }
    double value() const override;
    Index score_count() const override { return point_loss == PointLoss::logistic ? 2 : 1 + 4 * cols; }
    // logistic: as SoftmaxLoss; else the weight, then by output: residual, absolute, mean and total squares
    void score(const float* pred, double* sums) const override;
    void describe(StepBeginArgs& begin, StepEndArgs& end) const override;

 protected:
    void ready() override;

 private:
    double scale_of(double weight) const;  // of the gradients of a batch of so much
    std::deque<PointLossArgs> args_;
    double* sums_ = nullptr;
    int chunks_ = 0;
    double scale_ = 0;
};

}  // namespace fastnn::program

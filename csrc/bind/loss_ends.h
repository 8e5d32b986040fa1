// What surrounds the kernel of a loss on a device, as in a step of a program: class ids and weights are
// checked and taken first, the value is added up last (csrc/cuda/step.cu). The call waits for the value.
#pragma once

#include <optional>

#include "bind/arrays.h"
#include "bind/on_device.h"

namespace fastnn::bind {

class LossEnds {
 public:
    // The call lies on a device; `sample_weight` was read as `weight`, of `rows` numbers if it is given.
    LossEnds(Call& call, Index rows, const Value& sample_weight, const Input& weight);

    // Class ids that passed `are_class_ids`: where the kernel finds them.
    std::int64_t* take_labels(const Value& labels, Index classes, std::optional<std::int64_t> ignored);
    // By row: (weight, or 1) * factor / (divisor * the sum of the weights of the rows that count).
    const float* begin(double factor, double divisor);
    // Behind the kernel: the sum of the terms, each times its row's weight and all over their sum
    // (`by_weight`), or times `scale`. Raises as the CPU does where a class id or a weight is not allowed.
    double end(const double* terms, Index count, bool by_weight, double scale);

 private:
    struct State {
        CudaRun run;
        Targets targets;
        UpdateVerdict verdict;
    };
    [[noreturn]] void refuse();

    Call& call_;
    OnDevice& device_;
    const Value weight_value_;
    Value labels_{nullptr, nullptr};
    StepBeginArgs begin_{};
    State state_{};
};

// Raises where every row is ignored.
void check_any_counted(const Call& call, const Value& labels, Index counted,
                       std::optional<std::int64_t> ignored);

}  // namespace fastnn::bind

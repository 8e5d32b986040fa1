#include "bind/batches.h"

#include <cmath>
#include <string>

namespace fastnn::bind {

program::Batch batch_of(Call& call, BoundProgram& bound, const Value& x_value, const DataRows& x,
                        const Value& target_value, const DataRows& target) {
    const program::Loss& loss = bound.program().loss();
    const bool labels = loss.target == program::kNone;
    if (x.cols != bound.columns()) {
        call.value_error(x_value, "must have rows of " + std::to_string(bound.columns()) + " values");
    }
    if (target.rows != x.rows || target.cols != (labels ? 1 : loss.cols)) {
        call.value_error(target_value, "must have a row for each of x, of as many values as the loss takes");
    }
    program::Batch batch{};
    batch.x = {x.data, x.row, x.number, {}};
    if (labels) {
        batch.targets.labels = target.data;
        batch.targets.label_kind = target.number;
        batch.targets.label_stride = target.row;
    } else {
        batch.values = {target.data, target.row, target.number, {}};
    }
    return batch;
}

void check_numbers(const Call& call, const Value& value, const GroupNumbers* numbers, Index count) {
    const double* const begin = numbers->of_rule;
    for (const double* x = begin; x < begin + count * GroupNumbers::kCount; ++x) {
        if (!std::isfinite(static_cast<float>(*x)))
            call.value_error(value, "hold " + std::to_string(*x) + ", which is not finite as float32");
    }
}

Numbers read_numbers(Call& call, const Value& value, BoundProgram& bound) {
    const Samples given = read_samples(call, value);
    const auto groups = static_cast<Index>(bound.groups());
    const Index sets = groups == 0 ? 1 : given.rows / groups;
    if (given.element != Element::float64 || given.cols != GroupNumbers::kCount ||
        given.rows != sets * groups || given.row != GroupNumbers::kCount || sets < 1) {
        call.value_error(value, "must be float64 of shape (steps * groups, 10)");
    }
    const auto* numbers = static_cast<const GroupNumbers*>(given.data);
    check_numbers(call, value, numbers, given.rows);
    return {numbers, groups, sets};
}

}  // namespace fastnn::bind

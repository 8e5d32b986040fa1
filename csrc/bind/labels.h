// What a loss is given beside the predictions: class ids, the only integer arrays that kernels read, and
// weights.
#pragma once

#include <optional>

#include "bind/arrays.h"

namespace fastnn::bind {

// True if the labels are class ids, an integer array of shape (n,); false if they are of a floating-point
// dtype and so may be probabilities.
bool are_class_ids(Call& call, const Value& value, Index n);

// Copies n checked ids to `out`, those equal to `ignored` (if given) as kIgnoredLabel, and returns how many
// of these there are. The kernel indexes with the copies, so it never reads memory that the caller, or
// another thread, can change after the check.
Index read_class_ids(Call& call, const Value& value, Index n, Index classes,
                     std::optional<std::int64_t> ignored, std::int64_t* out);

// The sum of the weights, checked; rows whose label is ignored do not count.
double total_weight(const Call& call, const Value& value, const Input& weight, const std::int64_t* labels);

}  // namespace fastnn::bind

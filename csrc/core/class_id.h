// Which class ids and weights a batch may hold.
#pragma once

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

inline constexpr std::int64_t kNoClass = -2;

// The id as the kernel takes it: itself, kIgnoredLabel or kNoClass.
FASTNN_RULE std::int64_t class_id(std::int64_t given, Index classes, bool ignores, std::int64_t ignored) {
    if (ignores && given == ignored) return kIgnoredLabel;
    return given < 0 || given >= classes ? kNoClass : given;
}

FASTNN_RULE bool is_weight(float w) { return w >= 0.0f && w - w == 0.0f; }

}  // namespace fastnn

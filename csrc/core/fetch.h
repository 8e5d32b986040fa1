// Rows that are read soon, from anywhere in memory.
#pragma once

#include "core/types.h"

namespace fastnn {

// The beginning of a row, to the line that it ends in if it is short; the processor fetches the rest.
[[gnu::always_inline]] inline void fetch_row(const void* row, Index bytes) {
    constexpr Index kFetched = 256;
    constexpr std::uintptr_t kLine = 64;
    const auto from = reinterpret_cast<std::uintptr_t>(row);
    const auto end = from + static_cast<std::uintptr_t>(bytes < kFetched ? bytes : kFetched);
    for (auto at = from / kLine * kLine; at < end; at += kLine)
        __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
}

}  // namespace fastnn

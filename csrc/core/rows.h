// Rows of a data set, whatever they hold, side by side.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/fetch.h"
#include "core/kernels.h"

namespace fastnn {

struct TakeRowsArgs {
    const char* data;
    Index stride, bytes;  // from a row to the next, of a row
    const std::int64_t*
        rows;  // `count` that are taken, and `ahead` that are fetched meanwhile: the next batch's
    Index count, ahead;
    char* to;
};
static_assert(are_indices(&TakeRowsArgs::stride, &TakeRowsArgs::bytes, &TakeRowsArgs::count,
                          &TakeRowsArgs::ahead));

// 128 KB a chunk: less is copied faster than handed over.
inline Index rows_of_chunk(const TakeRowsArgs& a) {
    return std::max((Index{128} << 10) / std::max(a.bytes, Index{1}), Index{1});
}

inline int take_rows_chunks(const TakeRowsArgs& a) {
    return static_cast<int>((a.count + rows_of_chunk(a) - 1) / rows_of_chunk(a));
}

inline void take_rows(const TakeRowsArgs& a, int chunk, Scratch&) {
    const Index begin = chunk * rows_of_chunk(a), end = std::min(begin + rows_of_chunk(a), a.count);
    for (Index i = begin; i < end; ++i) {
        if (i < a.ahead) fetch_row(a.data + a.rows[a.count + i] * a.stride, a.bytes);
        std::memcpy(a.to + i * a.bytes, a.data + a.rows[i] * a.stride, static_cast<std::size_t>(a.bytes));
    }
}

inline constexpr Kernel<TakeRowsArgs> kTakeRows{take_rows_chunks, take_rows};

}  // namespace fastnn

// Loops of the streaming kernels: chunks of core/kernels.h, aligned on the output.
#pragma once

#include "core/kernels.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

// f(i, lanes) over [begin, end): whole vectors, then a last partial one.
template <class F>
FASTNN_INLINE void each_vector(Index begin, Index end, F f) {
    Index i = begin;
    for (; i + kLanes <= end; i += kLanes) f(i, kLanes);
    if (i < end) f(i, static_cast<int>(end - i));
}

// Elements of `out`, n at most, up to its next 64-byte border (misaligned stores cost 158 us against 125 for
// Adam on a million parameters).
FASTNN_INLINE Index until_aligned(const float* out, Index n) {
    const Index past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(out) / sizeof(float) % kLanes);
    const Index lead = past == 0 ? 0 : kLanes - past;
    return lead < n ? lead : n;
}

// f(i, lanes) over [begin, end): a first partial vector that ends at a border, whole vectors, a last partial
// one.
template <class F>
FASTNN_INLINE void stream_range(const float* out, Index begin, Index end, F f) {
    Index i = begin;
    if (const Index lead = until_aligned(out + i, end - i); lead > 0) {
        f(i, static_cast<int>(lead));
        i += lead;
    }
    each_vector(i, end, f);
}

template <class F>
FASTNN_INLINE void stream(const float* out, Index n, int chunk, F f) {
    const Index size = stream_chunk(n);
    const Index begin = chunk * size;
    stream_range(out, begin, begin + size < n ? begin + size : n, f);
}

}  // namespace fastnn::FASTNN_NS

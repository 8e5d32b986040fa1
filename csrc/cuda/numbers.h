// What a data set holds, number by number or in packs.
#pragma once

#include "cuda/launch.h"

namespace fastnn {

// f(the array as what it holds).
template <class F>
FASTNN_RULE auto with_numbers(const void* data, Number kind, F f) {
    switch (kind) {
        case Number::float32:
            return f(static_cast<const float*>(data));
        case Number::float64:
            return f(static_cast<const double*>(data));
        case Number::uint8:
            return f(static_cast<const std::uint8_t*>(data));
        case Number::int8:
            return f(static_cast<const std::int8_t*>(data));
        case Number::int16:
            return f(static_cast<const std::int16_t*>(data));
        case Number::uint16:
            return f(static_cast<const std::uint16_t*>(data));
        case Number::int32:
            return f(static_cast<const std::int32_t*>(data));
        case Number::uint32:
            return f(static_cast<const std::uint32_t*>(data));
        case Number::int64:
            return f(static_cast<const std::int64_t*>(data));
        case Number::uint64:
            break;
    }
    return f(static_cast<const std::uint64_t*>(data));
}

// The number at this place of an array of any kind, as T.
template <class T>
FASTNN_RULE T number_at(const void* data, Number kind, Index i) {
    return with_numbers(data, kind, [&](const auto* x) { return static_cast<T>(x[i]); });
}

// W numbers side by side, from wherever they begin: known to each thread for itself, because rows of any
// length follow one another.
template <int W, class T>
FASTNN_RULE Pack<W, T> load_anywhere(const T* p) {
    if constexpr (W > 1) {
        if (reinterpret_cast<std::uintptr_t>(p) % alignof(Pack<W, T>) != 0) {
            Pack<W, T> x;
#pragma unroll
            for (int l = 0; l < W; ++l) x.v[l] = p[l];
            return x;
        }
    }
    return load<W>(p);
}

}  // namespace fastnn

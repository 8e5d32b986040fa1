// What a data set holds, number by number.
#pragma once

#include "cuda/launch.h"

namespace fastnn {

// The number at this place of an array of any kind, as T.
template <class T>
FASTNN_RULE T number_at(const void* data, Number kind, Index i) {
    switch (kind) {
        case Number::float32:
            return static_cast<T>(static_cast<const float*>(data)[i]);
        case Number::float64:
            return static_cast<T>(static_cast<const double*>(data)[i]);
        case Number::uint8:
            return static_cast<T>(static_cast<const std::uint8_t*>(data)[i]);
        case Number::int8:
            return static_cast<T>(static_cast<const std::int8_t*>(data)[i]);
        case Number::int16:
            return static_cast<T>(static_cast<const std::int16_t*>(data)[i]);
        case Number::uint16:
            return static_cast<T>(static_cast<const std::uint16_t*>(data)[i]);
        case Number::int32:
            return static_cast<T>(static_cast<const std::int32_t*>(data)[i]);
        case Number::uint32:
            return static_cast<T>(static_cast<const std::uint32_t*>(data)[i]);
        case Number::int64:
            return static_cast<T>(static_cast<const std::int64_t*>(data)[i]);
        case Number::uint64:
            return static_cast<T>(static_cast<const std::uint64_t*>(data)[i]);
    }
    return T{};
}

}  // namespace fastnn

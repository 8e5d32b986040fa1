// Which array of an update a chunk belongs to.
#pragma once

#include "core/types.h"
#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

// The last tensor whose `first` (its first_chunk or first_unit_chunk) is not beyond the chunk.
template <Index UpdateTensor::* first>
FASTNN_INLINE Index tensor_of(const UpdateArgs& a, Index chunk) {
    Index low = 0;
    Index high = a.count;
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        (a.tensors[middle].*first <= chunk ? low : high) = middle;
    }
    return low;
}

}  // namespace fastnn::FASTNN_NS

// Which array of an update a chunk of the CPU's belongs to.
#pragma once

#include "cuda/launch.h"

namespace fastnn {

// The last tensor whose `first` (its first_chunk or first_unit_chunk) is not beyond the chunk.
template <Index UpdateTensor::* first>
FASTNN_RULE const UpdateTensor& tensor_of(const UpdateArgs& a, Index chunk) {
    Index low = 0;
    Index high = a.count;
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        (a.tensors[middle].*first <= chunk ? low : high) = middle;
    }
    return a.tensors[low];
}

}  // namespace fastnn

// What runs of steps on the CPU and on the device read alike.
#pragma once

#include "bind/bound_program.h"
#include "bind/samples.h"

namespace fastnn::bind {

// A data set, as yet without the rows of a batch. Raises where the target does not go with x and the loss.
program::Batch batch_of(Call& call, BoundProgram& bound, const Value& x_value, const DataRows& x,
                        const Value& target_value, const DataRows& target);

// Numbers of each group: one set for all steps, or a set for each.
struct Numbers {
    const GroupNumbers* data;
    Index groups, sets;

    const GroupNumbers* of(Index step) const { return data + (sets > 1 ? step : 0) * groups; }
};

// Raises for numbers that are not finite as float32.
void check_numbers(const Call& call, const Value& value, const GroupNumbers* numbers, Index count);
Numbers read_numbers(Call& call, const Value& value, BoundProgram& bound);

}  // namespace fastnn::bind

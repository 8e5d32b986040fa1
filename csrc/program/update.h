// The optimizer at the end of a step.
#pragma once

#include <vector>

#include "core/kernels.h"
#include "core/team.h"
#include "core/update_options.h"

namespace fastnn::program {

class Update {
 public:
    // What a group has beside its arrays and numbers.
    struct Group {
        Rule rule;
        bool towards_initial;
        std::uint64_t noise_seed;
    };
    UpdatePlan plan;
    std::vector<Group> groups;

    // For the kernels of an ISA.
    void prepare(const Kernels& kernels);
    // For the step of this number, counted from 1; numbers: of each group.
    void set(std::int64_t step, const GroupNumbers* numbers);

    const std::vector<Task>& tasks() const { return tasks_; }
    double cost_ns() const { return cost_ns_; }

 private:
    const Kernels* kernels_ = nullptr;
    std::vector<Task> tasks_;
    double cost_ns_ = 0;
};

}  // namespace fastnn::program

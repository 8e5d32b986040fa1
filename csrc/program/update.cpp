#include "program/update.h"

#include "core/cost.h"

namespace fastnn::program {

void Update::prepare(const Kernels& kernels) {
    if (kernels_ == &kernels) return;
    kernels_ = nullptr;  // until all tasks are there
    tasks_.clear();
    for (const Kernel<UpdateArgs>& phase : kernels.update) {
        const Task next = task(phase, plan.args);
        if (next.chunks > 0) tasks_.push_back(next);
    }
    cost_ns_ = stream_ns(plan.floats());
    kernels_ = &kernels;
}

void Update::set(std::int64_t step, const GroupNumbers* numbers) {
    for (std::size_t i = 0; i < groups.size(); ++i) {
        const Group& group = groups[i];
        plan.options[i] =
            update_options(group.rule, step, numbers[i], group.towards_initial, group.noise_seed);
    }
    plan.clear_verdict();
    plan.take_turns(tasks_.data(), tasks_.size(), static_cast<std::uint64_t>(step));
}

}  // namespace fastnn::program

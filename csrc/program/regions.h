// Many kernel calls as one task of the team, so that a step has few barriers.
#pragma once

#include <deque>
#include <vector>

#include "core/team.h"

namespace fastnn::program {

// Independent tasks: a chunk is a chunk of one of them.
class Together {
 public:
    void add(const Task& task) {
        if (task.chunks == 0) return;
        tasks_.push_back(task);
        ends_.push_back((ends_.empty() ? 0 : ends_.back()) + task.chunks);
    }
    bool empty() const { return tasks_.empty(); }
    // One of them is itself; more need `*this` to stay where it is.
    Task task() const {
        if (tasks_.size() == 1) return tasks_.front();
        return {call, nullptr, this, ends_.back(), 0};
    }

 private:
    static void call(const Task& region, int chunk, Scratch& scratch) {
        const auto& self = *static_cast<const Together*>(region.args);
        std::size_t i = 0;
        while (chunk >= self.ends_[i]) ++i;
        const Task& task = self.tasks_[i];
        task.call(task, chunk - (self.ends_[i] - task.chunks), scratch);
    }

    std::vector<Task> tasks_;
    std::vector<int> ends_;  // chunks of the tasks up to this one
};

// Blocks of rows: a chunk is one block, and the thread that has it runs all its tasks one after another.
class ByRows {
 public:
    std::vector<std::vector<Task>> blocks;

    Task task() const { return {call, nullptr, this, static_cast<int>(blocks.size()), 0}; }

 private:
    static void call(const Task& region, int chunk, Scratch& scratch) {
        const auto& self = *static_cast<const ByRows*>(region.args);
        for (const Task& task : self.blocks[static_cast<std::size_t>(chunk)])
            for (int i = 0; i < task.chunks; ++i) task.call(task, i, scratch);
    }
};

}  // namespace fastnn::program

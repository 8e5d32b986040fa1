// Runs kernels for one call: releases the GIL when that pays, and turns a signal's exception into the call's.
#pragma once

#include <memory>
#include <vector>

#include "bind/fastcall.h"
#include "core/team.h"

namespace fastnn::bind {

// Tasks in order, each phase of a kernel one task. The argument structs must outlive `run`.
class Tasks {
 public:
    template <class Args>
    void add(const Kernel<Args>& kernel, const Args& args) {
        const Task next = task(kernel, args);
        if (next.chunks > 0) tasks_[count_++] = next;
    }
    template <class Args, std::size_t phases>
    void add(const Kernel<Args> (&kernel)[phases], const Args& args) {
        for (const Kernel<Args>& phase : kernel) add(phase, args);
    }

    // A long sum becomes several tasks of whole blocks of K, because a signal waits for a chunk to end. The
    // blocks are added in the same order, so the bits are the same.
    void add(const Kernel<GemmArgs>& kernel, const GemmArgs& args);

    // cost_ns: estimated work of one thread. Throws py::error_already_set if a signal handler raised.
    void run(double cost_ns) const;
    // The same without a way out: what has begun is finished, so a half-applied update is never seen.
    void run_to_the_end(double cost_ns) const;

 private:
    bool execute(double cost_ns, Poll poll) const;

    Task tasks_[kMaxTasks];
    int count_ = 0;
    std::vector<std::unique_ptr<GemmArgs[]>> pieces_;
};

// True inside a Python signal handler that interrupted a running kernel of this thread.
bool inside_poll();

// Rough single-thread rates: they only decide about the GIL and about asking other threads.
inline double gemm_ns(Index m, Index n, Index k) {
    return 2.0 / 60.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}
inline double softmax_ns(Index rows, Index cols) {
    return static_cast<double>(rows) * (20.0 + 0.6 * static_cast<double>(cols));
}
inline double stream_ns(double floats) { return 4.0 / 30.0 * floats; }

}  // namespace fastnn::bind

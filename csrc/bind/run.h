// Runs kernels for one call: releases the GIL when that pays, and turns a signal's exception into the call's.
#pragma once

#include "bind/on_device.h"
#include "core/cost.h"
#include "core/team.h"
#include "core/update_options.h"

namespace fastnn::bind {

// Tasks in order, each phase of a kernel one task. The argument structs must outlive `run`. Where the arrays
// of the call lie on a device, the device's kernel of the same arguments is launched at once instead.
class Tasks {
 public:
    Tasks() = default;
    explicit Tasks(const Call& call) : device_(call.device()) {}

    template <class Args>
    void add(const Kernel<Args>& kernel, const Args& args) {
        if (!launched(args)) add_task(kernel, args);
    }
    template <class Args, std::size_t phases>
    void add(const Kernel<Args> (&kernel)[phases], const Args& args) {
        if (launched(args)) return;
        for (const Kernel<Args>& phase : kernel) add_task(phase, args);
    }
    void add(const Kernel<GemmArgs>& kernel, const GemmArgs& args) {
        if (!launched(args)) add_pieces(kernel, args);
    }

    bool multiplies_bf16(const Kernels& kernels) const {
        return device_ != nullptr || kernels.multiplies_bf16;
    }

    // Where calls stream through arrays of so many floats, every other one does so in the opposite order:
    // what the caches still hold of the call before comes first.
    void take_turns(double floats);
    // The same of an update, which is this call of many.
    void take_turns(const UpdatePlan& plan, std::uint64_t call) {
        plan.take_turns(tasks_, static_cast<std::size_t>(count_), call);
    }
    // In one call: the last phase goes back over what the first went through.
    void return_in_last(double floats);

    // cost_ns: estimated work of one thread. Throws py::error_already_set if a signal handler raised.
    void run(double cost_ns) const;
    // The same without a way out: what has begun is finished, so a half-applied update is never seen.
    void run_to_the_end(double cost_ns) const;

 private:
    template <class Args>
    bool launched(const Args& args) {
        if constexpr (CudaKernels::has<Args>()) {
            if (device_ != nullptr) [[unlikely]] {
                device_->launch(args);
                return true;
            }
        }
        return false;
    }
    template <class Args>
    void add_task(const Kernel<Args>& kernel, const Args& args) {
        const Task next = task(kernel, args);
        if (next.chunks > 0) tasks_[count_++] = next;
    }
    // A long sum becomes several tasks of whole blocks of K, because a signal waits for a chunk to end. The
    // blocks are added in the same order, so the bits are the same.
    void add_pieces(const Kernel<GemmArgs>& kernel, const GemmArgs& args);
    bool execute(double cost_ns, Poll poll) const;

    OnDevice* device_ = nullptr;
    int count_ = 0;
    Task tasks_[kMaxTasks];
    GemmArgs pieces_[kMaxTasks];  // [i]: of tasks_[i], where that is one; no call takes memory for them
};

// Calls `work`, without the GIL if that is worth it for so much of it, and gives back what it returns.
template <class Work>
bool without_gil(double cost_ns, Work work) {
    // Releasing and taking the GIL costs about 100 ns and may cost a switch of threads; below this it never
    // pays.
    constexpr double kReleaseGilNs = 20000;
    if (cost_ns <= kReleaseGilNs) return work();
    // No destructor takes the GIL back: at the interpreter's end taking it may unwind the thread.
    PyThreadState* state = PyEval_SaveThread();
    bool finished = false;
    try {
        finished = work();
    } catch (const std::exception&) {
        PyEval_RestoreThread(state);
        throw;
    }
    PyEval_RestoreThread(state);
    return finished;
}

// A Poll that lets Python's signal handlers run; true if one raised, which is then the current exception.
bool signal_raised();

// The same, and true while runs of steps are asked to stop, which raises nothing. Any thread may ask.
bool signal_or_stop();
void stop_steps(bool stop);

// True inside a Python signal handler that interrupted a running kernel of this thread.
bool inside_poll();

}  // namespace fastnn::bind

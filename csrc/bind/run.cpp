#include "bind/run.h"

#include <algorithm>
#include <atomic>

namespace fastnn::bind {
namespace {

thread_local bool t_inside_poll = false;
std::atomic<bool> g_stop{false};

}  // namespace

bool signal_raised() {
    const PyGILState_STATE gil = PyGILState_Ensure();
    t_inside_poll = true;
    const bool raised = PyErr_CheckSignals() != 0;
    t_inside_poll = false;
    PyGILState_Release(gil);
    return raised;
}

bool signal_or_stop() { return signal_raised() || g_stop.load(std::memory_order_relaxed); }

void stop_steps(bool stop) { g_stop.store(stop, std::memory_order_relaxed); }

bool inside_poll() { return t_inside_poll; }

void Tasks::add_pieces(const Kernel<GemmArgs>& kernel, const GemmArgs& args) {
    constexpr double kPieceFlops = 1e8;  // of one chunk: a tenth of a second on the scalar path
    constexpr Index kMostPieces = 100;
    const Task whole = task(kernel, args);
    if (whole.chunks == 0) return;
    const Index blocks = (args.k + kBlockK - 1) / kBlockK;
    const double flops =
        2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
    const double wanted = flops / kPieceFlops / whole.chunks;
    const Index pieces = std::min({blocks, kMostPieces, static_cast<Index>(std::min(wanted, 1e6)) + 1});
    if (pieces <= 1) {
        tasks_[count_++] = whole;
        return;
    }
    for (Index i = 0; i < pieces; ++i) {
        GemmArgs& piece = pieces_[count_];
        piece = args;
        piece.k_begin = blocks * i / pieces * kBlockK;
        piece.k_end = std::min(blocks * (i + 1) / pieces * kBlockK, args.k);
        tasks_[count_++] = task(kernel, piece);
    }
}

void Tasks::take_turns(double floats) {
    static std::atomic<unsigned> calls{0};
    if (!to_and_fro(floats) || calls.fetch_add(1, std::memory_order_relaxed) % 2 == 0) return;
    for (int i = 0; i < count_; ++i) tasks_[i].middle = tasks_[i].chunks / 2;
}

void Tasks::return_in_last(double floats) {
    if (count_ > 1 && to_and_fro(floats)) tasks_[count_ - 1].middle = tasks_[count_ - 1].chunks / 2;
}

bool Tasks::execute(double cost_ns, Poll poll) const {
    if (count_ == 0) return true;
    return without_gil(cost_ns, [&] { return run_tasks(tasks_, count_, cost_ns, poll); });
}

void Tasks::run(double cost_ns) const {
    if (!execute(cost_ns, signal_raised)) throw py::error_already_set();
}

void Tasks::run_to_the_end(double cost_ns) const { execute(cost_ns, nullptr); }

}  // namespace fastnn::bind

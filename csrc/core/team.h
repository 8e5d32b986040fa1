// The thread team: the only code that starts threads.
//
// A region is a list of tasks (phases). Chunks are claimed by compare-and-swap on one word that holds
// (epoch, phase, front, back): the caller and even workers take from the front, odd workers from the back, so
// that with two threads each keeps its part of the arrays in its own cache from call to call. A claim is
// valid exactly when the swap succeeds, so the caller never waits for a worker that holds no chunk, and a
// worker that wakes late finds nothing to do. The bits never depend on any of this: chunks are fixed by the
// shape.
#pragma once

#include "core/kernels.h"

namespace fastnn {

struct Task {
    void (*call)(const Task& task, int chunk, Scratch& scratch);
    void (*entry)();  // the kernel entry, its type erased; `call` knows it
    const void* args;
    int chunks;
    int middle;  // not 0: from this chunk outwards, not from both ends; one thread alone goes backwards

    // The chunk to take as the n-th from the front; as the n-th of one thread alone.
    int at(int n) const {
        if (middle == 0) return n;
        return n < middle ? middle - 1 - n : middle + chunks - 1 - n;
    }
    int at_alone(int n) const { return middle == 0 ? n : chunks - 1 - n; }
};

inline constexpr int kMaxTasks = 255;

// Called by the thread that opened the region, between chunks, at most every 50 ms; true cancels what is
// left.
using Poll = bool (*)();

// Runs the tasks in order with a barrier after each. cost_ns: estimated work of one thread, decides whether
// other threads are asked at all. Returns false if `poll` cancelled. Throws std::bad_alloc before any work.
bool run_tasks(const Task* tasks, int count, double cost_ns, Poll poll);

// Regions that the calling thread opens run on it alone, from now on.
void stay_on_this_thread();

int num_threads();
// Whether it pays to go through arrays of so many floats to and fro, call after call: the caches near the
// cores do not hold them. Where they do, threads that took a chunk of one another would only exchange it.
inline bool to_and_fro(double floats) { return floats > 400e3 * static_cast<double>(num_threads()); }
void set_num_threads(int n);

// Bytes held by the scratch memory of all threads and by reused workspaces.
Index workspace_bytes();

// A reused, 64-byte aligned, per-thread buffer; contents are lost at the next call. Throws std::bad_alloc.
float* workspace(Index floats);

// Seconds for `repeats` empty regions of one chunk a thread.
double fork_join_seconds(int repeats);

template <class Args>
Task task(const Kernel<Args>& kernel, const Args& args) {
    using Entry = void (*)(const Args&, int, Scratch&);
    return {[](const Task& t, int chunk, Scratch& scratch) {
                reinterpret_cast<Entry>(t.entry)(*static_cast<const Args*>(t.args), chunk, scratch);
            },
            reinterpret_cast<void (*)()>(kernel.run), &args, kernel.chunks(args), 0};
}

}  // namespace fastnn

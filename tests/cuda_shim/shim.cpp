// The threads of a block: a pool that lives as long as the process, one lock, a condition for each thread.
//
// One thread at a time (forward, backward) finds a missing barrier every time: whoever runs first reads what
// the others have not written, and shared memory begins as NaN. All at once, ThreadSanitizer sees the race.
// A block whose threads all wait or have ended, and cannot go on, is a divergent barrier; a thread that never
// waits and never ends is given up after kPatience.
#include "shim.h"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/fp_env.h"
#include "cuda_runtime.h"

namespace shim {
namespace {

constexpr std::chrono::seconds kPatience{100};
constexpr unsigned kMost = 1024;

enum class State { idle, ready, waiting, done };

struct Stop {};  // unwinds the threads of a block that failed

struct Worker {
    std::thread thread;
    std::condition_variable go;
    State state = State::idle;
    std::array<unsigned char, 16> slot;
};

struct Barrier {
    std::vector<unsigned> waiting;
    unsigned line = 0;
    unsigned released = 0;  // threads so far
    std::atomic<unsigned> passed{0};
};

std::mutex lock;
std::condition_variable finished;
// Never destroyed: the pool waits on them until the process ends.
auto& workers = *new std::vector<std::unique_ptr<Worker>>;
Schedule schedule = Schedule::forward;
std::string failure;
std::atomic<bool> failed{false};  // the same, for those who do not hold the lock

// ---- of the block that runs
const std::function<void()>* kernel;
unsigned block, threads, done, turn;
std::atomic<unsigned> started;
Barrier whole;                       // __syncthreads
std::map<unsigned, Barrier> groups;  // by the first thread of the lanes that meet
std::atomic<unsigned char*> memory;  // shared
thread_local unsigned me;

bool may_run(unsigned t) {
    return workers[t]->state == State::ready && (schedule == Schedule::concurrent || turn == t);
}

void fail(const std::string& what) {
    if (failure.empty()) failure = what;
    failed = true;
    for (unsigned t = 0; t < threads; ++t) workers[t]->go.notify_one();
}

// The caller stops: somebody else must be able to go on.
void pass_turn() {
    if (done == threads) return finished.notify_one();
    for (unsigned i = 1; i <= threads; ++i) {
        const unsigned t = (schedule == Schedule::backward ? me + threads - i : me + i) % threads;
        if (workers[t]->state != State::ready) continue;
        if (schedule == Schedule::concurrent) return;
        turn = t;
        return workers[t]->go.notify_one();
    }
    fail("divergent barrier: the threads of a block wait for each other at different places");
}

void release(Barrier& b) {
    b.released += static_cast<unsigned>(b.waiting.size());
    for (const unsigned t : b.waiting) {
        workers[t]->state = State::ready;
        if (schedule == Schedule::concurrent) workers[t]->go.notify_one();
    }
    b.waiting.clear();
}

// Nobody passes before all have come: a thread that took the lock later than another gave it back would
// count as ordered behind it, and ThreadSanitizer would be blind.
void pass_gate(std::atomic<unsigned>& passed, unsigned all) {
    if (schedule != Schedule::concurrent) return;
    passed.fetch_add(1, std::memory_order_relaxed);
    while (passed.load(std::memory_order_relaxed) < all) {
        if (failed.load(std::memory_order_relaxed)) throw Stop{};  // some of them have been stopped
        std::this_thread::yield();
    }
}

// A thread that has ended is not waited for.
unsigned alive() { return threads - done; }

// Of so many threads, or (0) of all that have not ended.
void wait_at(Barrier& b, unsigned expected, const Where& where) {
    std::unique_lock held(lock);
    if (!b.waiting.empty() && b.line != where.line())
        fail("divergent barrier: threads meet at lines " + std::to_string(b.line) + " and " +
             std::to_string(where.line()) + " of " + where.file_name());
    if (!failure.empty()) throw Stop{};  // who has been stopped must not be released
    b.line = where.line();
    b.waiting.push_back(me);
    workers[me]->state = State::waiting;
    if (b.waiting.size() == (expected > 0 ? expected : alive()))
        release(b);
    else
        pass_turn();
    workers[me]->go.wait(held, [] { return !failure.empty() || may_run(me); });
    if (!failure.empty()) throw Stop{};
    const unsigned all = b.released;
    held.unlock();
    pass_gate(b.passed, all);
}

void work(unsigned number) {
    fastnn::FlushDenormals flush;  // as the GPU's code does
    me = number;
    std::unique_lock held(lock);
    while (true) {
        // In a block that failed all come here to end.
        workers[me]->go.wait(
            held, [] { return may_run(me) || (workers[me]->state == State::ready && !failure.empty()); });
        threadIdx = {me, 0, 0};
        blockIdx = {block, 0, 0};
        blockDim = {threads, 1, 1};
        if (failure.empty()) {
            held.unlock();
            try {
                pass_gate(started, threads);
                (*kernel)();
            } catch (const Stop&) {
            }
            held.lock();
        }
        workers[me]->state = State::done;
        ++done;
        if (failure.empty() && !whole.waiting.empty() && whole.waiting.size() == alive()) release(whole);
        pass_turn();
    }
}

}  // namespace

void set_schedule(Schedule s) {
    const std::lock_guard held(lock);
    schedule = s;
}

std::string take_failure() {
    const std::lock_guard held(lock);
    failed = false;
    return std::exchange(failure, "");
}

void launch(unsigned blocks, unsigned count, const std::function<void()>& f) {
    std::unique_lock held(lock);
    if (count > kMost) return fail("a block of more than 1024 threads");
    while (workers.size() < count) {
        workers.push_back(std::make_unique<Worker>());
        workers.back()->thread = std::thread(work, static_cast<unsigned>(workers.size() - 1));
        workers.back()->thread.detach();
    }
    kernel = &f;
    threads = count;
    for (block = 0; block < blocks && failure.empty(); ++block) {
        done = 0;
        whole.waiting.clear();
        whole.released = 0;
        whole.passed = 0;
        started = 0;
        groups.clear();
        delete[] memory.exchange(nullptr);
        for (unsigned t = 0; t < count; ++t) workers[t]->state = State::ready;
        turn = schedule == Schedule::backward ? count - 1 : 0;
        for (unsigned t = 0; t < count; ++t)
            if (may_run(t)) workers[t]->go.notify_one();
        if (!finished.wait_for(held, kPatience, [] { return done == threads; })) {
            std::fputs("shim: a thread of a kernel neither waits nor ends\n", stderr);
            std::abort();
        }
    }
}

// Not under the lock of the threads, which would order them (pass_gate).
void* shared(std::size_t bytes) {
    unsigned char* p = memory.load(std::memory_order_acquire);
    if (p == nullptr) {
        static std::mutex allocation;
        const std::lock_guard held(allocation);
        p = memory.load(std::memory_order_relaxed);
        if (p == nullptr) {
            p = new unsigned char[bytes];
            std::memset(p, 0xff, bytes);
            memory.store(p, std::memory_order_release);
        }
    }
    return p;
}

void sync_block(const Where& where) { wait_at(whole, 0, where); }

void exchange(unsigned mask, const void* own, std::size_t bytes, const Where& where,
              const std::function<void(const unsigned char* (*of_lane)(unsigned))>& collect) {
    std::unique_lock held(lock);
    if ((mask >> (me % 32) & 1) == 0) fail("a thread is not in the mask it names");
    std::memcpy(workers[me]->slot.data(), own, bytes);
    Barrier& group = groups[me / 32 * 32 + static_cast<unsigned>(__builtin_ctz(mask))];
    held.unlock();
    const auto expected = static_cast<unsigned>(__builtin_popcount(mask));
    wait_at(group, expected, where);
    collect([](unsigned lane) -> const unsigned char* { return workers[me / 32 * 32 + lane]->slot.data(); });
    wait_at(group, expected, where);  // before anybody's slot is written again
}

}  // namespace shim

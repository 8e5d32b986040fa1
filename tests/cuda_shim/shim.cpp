// The threads of a block, one at a time or all at once.
//
// One thread at a time (forward, backward) finds a missing barrier every time: whoever runs first reads what
// the others have not written, and shared memory begins as NaN. Each is a context with a stack of its own on
// the thread that launches; to wait at a barrier is to switch to the next. All at once, each is a thread of a
// pool, and ThreadSanitizer sees the race; it knows no contexts, so with it everything runs all at once.
// A block whose threads all wait or have ended, and cannot go on, is a divergent barrier; a thread that never
// waits and never ends is given up after kPatience.
#include "shim.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
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
constexpr std::size_t kStack = 256 * 1024, kPage = 64 * 1024;  // the largest page of any CPU
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

enum class State { fresh, ready, waiting, done };

struct Stop {};  // unwinds the threads of a block that failed

struct Worker {
    State state = State::done;
    std::array<unsigned char, 16> slot;  // the largest: four registers
    ucontext_t context;                  // one at a time: where it waits
    bool in_pool = false;
    std::condition_variable go;  // of its thread in the pool
};

struct Barrier {
    std::vector<unsigned> waiting;
    unsigned line = 0;
    unsigned released = 0;  // threads so far
    std::atomic<unsigned> passed{0};
};

std::mutex lock;  // of what threads that run all at once share; one at a time nobody holds it
std::condition_variable finished;
// Never destroyed: the pool waits on them until the process ends.
auto& workers = *new std::vector<std::unique_ptr<Worker>>;
Schedule schedule = Schedule::forward;
std::string failure;
std::atomic<bool> failed{false};  // the same, for those who do not hold the lock

// ---- of the block that runs
const std::function<void()>* kernel;
unsigned block, threads, done, turn;
bool together;  // all at once
std::atomic<unsigned> started;
Barrier whole;                       // __syncthreads
std::map<unsigned, Barrier> groups;  // by the first thread of the lanes that meet
std::atomic<unsigned char*> memory;  // shared
thread_local unsigned me;

using Held = std::unique_lock<std::mutex>;

Held hold() { return together ? Held(lock) : Held(); }

bool may_run(unsigned t) { return workers[t]->state == State::fresh || workers[t]->state == State::ready; }

void become(unsigned t) {
    me = t;
    threadIdx = {t, 0, 0};
    blockIdx = {block, 0, 0};
    blockDim = {threads, 1, 1};
}

// All may run again, in order to end.
void fail(const std::string& what) {
    if (failure.empty()) failure = what;
    failed = true;
    for (unsigned t = 0; t < threads; ++t) {
        if (workers[t]->state == State::waiting) workers[t]->state = State::ready;
        if (together) workers[t]->go.notify_one();
    }
}

// The turn goes to the next of these threads that may run, counted from the caller; false where none may.
bool pass_among(unsigned first, unsigned count) {
    for (unsigned i = 1; i <= count; ++i) {
        const unsigned step = schedule == Schedule::backward ? count - i : i;
        const unsigned t = first + (me - first + step) % count;
        if (!may_run(t)) continue;
        turn = t;
        return true;
    }
    return false;
}

// The caller stops: somebody else must be able to go on. Its warp goes first: one that meets at shuffles
// would else keep the others' pace, and a barrier between warps would never be missed.
void pass_turn() {
    for (int round = 0; round < 2; ++round) {
        const unsigned warp = me / 32 * 32;
        if (pass_among(warp, std::min(32u, threads - warp)) || pass_among(0, threads)) return;
        fail("divergent barrier: the threads of a block wait for each other at different places");
    }
}

void release(Barrier& b) {
    b.released += static_cast<unsigned>(b.waiting.size());
    for (const unsigned t : b.waiting) {
        workers[t]->state = State::ready;
        if (together) workers[t]->go.notify_one();
    }
    b.waiting.clear();
}

// Of `me`, up to its end.
void run_thread() {
    if (!failed.load(std::memory_order_relaxed)) try {
            (*kernel)();
        } catch (const Stop&) {
        }
}

void end_thread() {
    workers[me]->state = State::done;
    ++done;
    if (failure.empty() && !whole.waiting.empty() && whole.waiting.size() == threads - done) release(whole);
    if (done < threads) pass_turn();
}

// ---- one at a time

ucontext_t caller;
auto& stacks = *new std::vector<void*>;  // that nobody stands on

// A context's life: threads from start to end, until one has to go on that waits in a context of its own.
void context_main(unsigned low, unsigned high) {
    void* const stack = reinterpret_cast<void*>(std::uintptr_t{high} << 32 | low);
    do {
        become(turn);
        workers[me]->state = State::ready;
        run_thread();
        end_thread();
    } while (done < threads && workers[turn]->state == State::fresh);
    stacks.push_back(stack);
    setcontext(done < threads ? &workers[turn]->context : &caller);
}

void* new_stack() {
    void* const p = mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, kPage, PROT_NONE) != 0) {
        std::fputs("shim: no memory for a stack\n", stderr);
        std::abort();
    }
    return static_cast<char*>(p) + kPage;
}

// Lets the thread whose turn it is run; the caller goes on when somebody switches to `from`.
void switch_from(ucontext_t& from) {
    if (workers[turn]->state != State::fresh) {
        swapcontext(&from, &workers[turn]->context);
        return;
    }
    if (stacks.empty()) stacks.push_back(new_stack());
    void* const stack = stacks.back();
    stacks.pop_back();
    ucontext_t fresh;
    getcontext(&fresh);
    fresh.uc_stack.ss_sp = stack;
    fresh.uc_stack.ss_size = kStack;
    const auto bits = reinterpret_cast<std::uintptr_t>(stack);  // makecontext passes ints
    makecontext(&fresh, reinterpret_cast<void (*)()>(context_main), 2, static_cast<unsigned>(bits),
                static_cast<unsigned>(bits >> 32));
    swapcontext(&from, &fresh);
}

// ---- all at once

// Nobody passes before all have come: a thread that took the lock later than another gave it back would
// count as ordered behind it, and ThreadSanitizer would be blind. Without it the gate would only cost time.
void pass_gate(std::atomic<unsigned>& passed, unsigned all) {
    if (!kThreadSanitizer) return;
    passed.fetch_add(1, std::memory_order_relaxed);
    while (passed.load(std::memory_order_relaxed) < all) {
        if (failed.load(std::memory_order_relaxed)) throw Stop{};  // some of them have been stopped
        std::this_thread::yield();
    }
}

void work(unsigned number) {
    fastnn::FlushDenormals flush;  // as the GPU's code does
    Held held(lock);
    while (true) {
        workers[number]->go.wait(held, [number] { return may_run(number); });
        workers[number]->state = State::ready;
        become(number);
        held.unlock();
        try {
            pass_gate(started, threads);
            run_thread();
        } catch (const Stop&) {
        }
        held.lock();
        end_thread();
        if (done == threads) finished.notify_one();
    }
}

// ---- both

// A thread that has ended is not waited for. Of so many threads, or (0) of all that have not ended.
void wait_at(Barrier& b, unsigned expected, const Where& where) {
    Held held = hold();
    if (!b.waiting.empty() && b.line != where.line())
        fail("divergent barrier: threads meet at lines " + std::to_string(b.line) + " and " +
             std::to_string(where.line()) + " of " + where.file_name());
    if (!failure.empty()) throw Stop{};  // who has been stopped must not be released
    b.line = where.line();
    b.waiting.push_back(me);
    workers[me]->state = State::waiting;
    if (b.waiting.size() == (expected > 0 ? expected : threads - done))
        release(b);
    else
        pass_turn();
    if (together) {
        workers[me]->go.wait(held, [] { return may_run(me); });
    } else if (const unsigned self = me; turn != self) {
        switch_from(workers[self]->context);
        become(self);
    }
    if (!failure.empty()) throw Stop{};
    const unsigned all = b.released;
    if (together) held.unlock();
    pass_gate(b.passed, all);
}

std::atomic<unsigned long> blocks_run;
std::atomic<bool> running{false};

// Counts its own looks, not the time: a process that is stopped does not hang.
void watch() {
    unsigned long last = 0;
    for (int looks = 0; looks < kPatience.count(); ++looks) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        if (const unsigned long now = blocks_run; now != last || !running) {
            last = now;
            looks = 0;
        }
    }
    std::fputs("shim: a thread of a kernel neither waits nor ends\n", stderr);
    std::abort();
}

// The block that runs as number i.
unsigned block_of(unsigned i, unsigned blocks) {
    if (schedule == Schedule::forward) return i;
    if (schedule == Schedule::backward) return blocks - 1 - i;
    return i < blocks / 2 ? 2 * i + 1 : 2 * (i - blocks / 2);
}

void run_block(Held& held) {
    done = 0;
    whole.waiting.clear();
    whole.released = 0;
    whole.passed = 0;
    started = 0;
    groups.clear();
    delete[] memory.exchange(nullptr);
    for (unsigned t = 0; t < threads; ++t) workers[t]->state = State::fresh;
    turn = schedule == Schedule::backward ? threads - 1 : 0;
    if (!together) return switch_from(caller);
    for (unsigned t = 0; t < threads; ++t) workers[t]->go.notify_one();
    finished.wait(held, [] { return done == threads; });
}

}  // namespace

void set_schedule(Schedule s) { schedule = s; }

std::string take_failure() {
    failed = false;
    return std::exchange(failure, "");
}

void launch(unsigned blocks, unsigned count, const std::function<void()>& f) {
    if (count > kMost) {
        failure = "a block of more than 1024 threads";
        return;
    }
    static const bool watched = (std::thread(watch).detach(), true);
    static_cast<void>(watched);
    const fastnn::FlushDenormals flush;  // as the GPU's code does
    together = schedule == Schedule::concurrent || kThreadSanitizer;
    Held held = hold();
    while (workers.size() < count) workers.push_back(std::make_unique<Worker>());
    for (unsigned t = 0; together && t < count; ++t)
        if (!std::exchange(workers[t]->in_pool, true)) std::thread(work, t).detach();
    kernel = &f;
    threads = count;
    running = true;
    for (unsigned i = 0; i < blocks && failure.empty(); ++i, ++blocks_run) {
        block = block_of(i, blocks);
        run_block(held);
    }
    running = false;
}

// Not under the lock of the threads, which would order them (pass_gate).
void* shared(std::size_t bytes) {
    unsigned char* p = memory.load(std::memory_order_acquire);
    if (p == nullptr) {
        static std::mutex allocation;
        const std::lock_guard own(allocation);
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
    Held held = hold();
    if ((mask >> (me % 32) & 1) == 0) fail("a thread is not in the mask it names");
    std::memcpy(workers[me]->slot.data(), own, bytes);
    Barrier& group = groups[me / 32 * 32 + static_cast<unsigned>(__builtin_ctz(mask))];
    if (together) held.unlock();
    const auto expected = static_cast<unsigned>(__builtin_popcount(mask));
    wait_at(group, expected, where);
    collect([](unsigned lane) -> const unsigned char* { return workers[me / 32 * 32 + lane]->slot.data(); });
    wait_at(group, expected, where);  // before anybody's slot is written again
}

}  // namespace shim

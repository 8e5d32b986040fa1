// The threads of a block, one at a time or all at once.
//
// One thread at a time (forward, backward) finds a missing barrier every time: whoever runs first reads what
// the others have not written, and shared memory begins as NaN. Each is a context with a stack of its own on
// the thread that launches; to wait at a barrier is to switch to the next. All at once, each is a thread of a
// pool, and so are those of the next blocks, which have nothing in common but what the kernel shares: then
// ThreadSanitizer sees the race; it knows no contexts, so with it everything runs all at once.
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

// What the threads of a block share. Of several at once each has a lock of its own, so that none is ordered
// behind another; one at a time there is one, and nobody holds its lock.
struct Block {
    std::mutex lock;
    std::condition_variable finished;
    std::vector<std::unique_ptr<Worker>> workers;
    unsigned number, done, turn;
    Barrier whole;                       // __syncthreads
    std::map<unsigned, Barrier> groups;  // by the first thread of the lanes that meet
    std::mutex allocation;
    std::atomic<unsigned char*> memory;  // shared
    std::string failure;
    std::atomic<bool> failed{false};  // the same, for those who do not hold the lock
};

// Never destroyed: the pool waits on them until the process ends.
auto& slots = *new std::array<Block, kAtOnce>;
Schedule schedule = Schedule::forward;
std::string failure;  // of the last launches

// ---- of the blocks that run
const std::function<void()>* kernel;
unsigned threads;  // of each
bool together;     // all at once
std::atomic<unsigned> started;
unsigned expected_to_start;
thread_local Block* mine = &slots.front();
thread_local unsigned me;

using Held = std::unique_lock<std::mutex>;

Held hold() { return together ? Held(mine->lock) : Held(); }

bool may_run(unsigned t) {
    return mine->workers[t]->state == State::fresh || mine->workers[t]->state == State::ready;
}

void become(unsigned t) {
    me = t;
    slot = static_cast<unsigned>(mine - slots.data());
    fenced = false;
    counter = nullptr;
    threadIdx = {t, 0, 0};
    blockIdx = {mine->number, 0, 0};
    blockDim = {threads, 1, 1};
}

// All may run again, in order to end.
void fail(const std::string& what) {
    if (mine->failure.empty()) mine->failure = what;
    mine->failed = true;
    for (unsigned t = 0; t < threads; ++t) {
        if (mine->workers[t]->state == State::waiting) mine->workers[t]->state = State::ready;
        if (together) mine->workers[t]->go.notify_one();
    }
}

// The turn goes to the next of these threads that may run, counted from the caller; false where none may.
bool pass_among(unsigned first, unsigned count) {
    for (unsigned i = 1; i <= count; ++i) {
        const unsigned step = schedule == Schedule::backward ? count - i : i;
        const unsigned t = first + (me - first + step) % count;
        if (!may_run(t)) continue;
        mine->turn = t;
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

std::atomic<unsigned long> progress;  // barriers passed, blocks ended; relaxed, so that it orders nobody

void release(Barrier& b) {
    progress.fetch_add(1, std::memory_order_relaxed);
    b.released += static_cast<unsigned>(b.waiting.size());
    for (const unsigned t : b.waiting) {
        mine->workers[t]->state = State::ready;
        if (together) mine->workers[t]->go.notify_one();
    }
    b.waiting.clear();
}

// Of `me`, up to its end.
void run_thread() {
    if (!mine->failed.load(std::memory_order_relaxed)) try {
            (*kernel)();
        } catch (const Stop&) {
        }
}

void end_thread() {
    mine->workers[me]->state = State::done;
    ++mine->done;
    if (mine->failure.empty() && !mine->whole.waiting.empty() &&
        mine->whole.waiting.size() == threads - mine->done)
        release(mine->whole);
    if (mine->done < threads) pass_turn();
}

// ---- one at a time

ucontext_t caller;
auto& stacks = *new std::vector<void*>;  // that nobody stands on

// A context's life: threads from start to end, until one has to go on that waits in a context of its own.
void context_main(unsigned low, unsigned high) {
    void* const stack = reinterpret_cast<void*>(std::uintptr_t{high} << 32 | low);
    do {
        become(mine->turn);
        mine->workers[me]->state = State::ready;
        run_thread();
        end_thread();
    } while (mine->done < threads && mine->workers[mine->turn]->state == State::fresh);
    stacks.push_back(stack);
    setcontext(mine->done < threads ? &mine->workers[mine->turn]->context : &caller);
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
    if (mine->workers[mine->turn]->state != State::fresh) {
        swapcontext(&from, &mine->workers[mine->turn]->context);
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
        if (mine->failed.load(std::memory_order_relaxed)) throw Stop{};  // some of them have been stopped
        std::this_thread::yield();
    }
}

void work(Block& block, unsigned number) {
    mine = &block;
    fastnn::FlushDenormals flush;  // as the GPU's code does
    Held held(mine->lock);
    while (true) {
        mine->workers[number]->go.wait(held, [number] { return may_run(number); });
        mine->workers[number]->state = State::ready;
        become(number);
        held.unlock();
        try {
            pass_gate(started, expected_to_start);
            run_thread();
        } catch (const Stop&) {
        }
        held.lock();
        end_thread();
        if (mine->done == threads) mine->finished.notify_one();
    }
}

// ---- both

// A thread that has ended is not waited for. Of so many threads, or (0) of all that have not ended.
void wait_at(Barrier& b, unsigned expected, const Where& where) {
    Held held = hold();
    if (!b.waiting.empty() && b.line != where.line())
        fail("divergent barrier: threads meet at lines " + std::to_string(b.line) + " and " +
             std::to_string(where.line()) + " of " + where.file_name());
    if (!mine->failure.empty()) throw Stop{};  // who has been stopped must not be released
    b.line = where.line();
    b.waiting.push_back(me);
    mine->workers[me]->state = State::waiting;
    if (b.waiting.size() == (expected > 0 ? expected : threads - mine->done))
        release(b);
    else
        pass_turn();
    if (together) {
        mine->workers[me]->go.wait(held, [] { return may_run(me); });
    } else if (const unsigned self = me; mine->turn != self) {
        switch_from(mine->workers[self]->context);
        become(self);
    }
    if (!mine->failure.empty()) throw Stop{};
    const unsigned all = b.released;
    if (together) held.unlock();
    pass_gate(b.passed, all);
}

std::atomic<bool> running{false};

// Counts its own looks, not the time: a process that is stopped does not hang.
void watch() {
    unsigned long last = 0;
    for (int looks = 0; looks < kPatience.count(); ++looks) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        if (const unsigned long now = progress.load(std::memory_order_relaxed); now != last || !running) {
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

void begin_block(unsigned number) {
    Block& b = *mine;
    const Held held = hold();
    while (b.workers.size() < threads) b.workers.push_back(std::make_unique<Worker>());
    for (unsigned t = 0; together && t < threads; ++t)
        if (!std::exchange(b.workers[t]->in_pool, true)) std::thread(work, std::ref(b), t).detach();
    b.number = number;
    b.done = 0;
    b.whole.waiting.clear();
    b.whole.released = 0;
    b.whole.passed = 0;
    b.groups.clear();
    delete[] b.memory.exchange(nullptr);
    for (unsigned t = 0; t < threads; ++t) b.workers[t]->state = State::fresh;
    b.turn = schedule == Schedule::backward ? threads - 1 : 0;
    for (unsigned t = 0; together && t < threads; ++t) b.workers[t]->go.notify_one();
}

void end_block() {
    if (!together) return switch_from(caller);
    Held held = hold();
    mine->finished.wait(held, [] { return mine->done == threads; });
}

}  // namespace

void set_schedule(Schedule s) { schedule = s; }

std::string take_failure() { return std::exchange(failure, ""); }

void launch(unsigned blocks, unsigned count, const std::function<void()>& f) {
    if (count > kMost) {
        failure = "a block of more than 1024 threads";
        return;
    }
    static const bool watched = (std::thread(watch).detach(), true);
    static_cast<void>(watched);
    const fastnn::FlushDenormals flush;  // as the GPU's code does
    together = schedule == Schedule::concurrent || kThreadSanitizer;
    kernel = &f;
    threads = count;
    running = true;
    const unsigned at_once = together ? std::min(kAtOnce, kMost / count) : 1;
    for (unsigned i = 0; i < blocks && failure.empty(); i += at_once) {
        const unsigned number = std::min(at_once, blocks - i);
        started = 0;
        expected_to_start = number * threads;
        for (unsigned at = 0; at < number; ++at) {
            mine = &slots[at];
            begin_block(block_of(i + at, blocks));
        }
        for (unsigned at = 0; at < number; ++at) {
            mine = &slots[at];
            end_block();
            progress.fetch_add(1, std::memory_order_relaxed);
            if (failure.empty()) failure = mine->failure;
            mine->failure.clear();
            mine->failed = false;
        }
    }
    mine = &slots.front();
    running = false;
}

// Not under the lock of the threads, which would order them (pass_gate).
void* shared(std::size_t bytes) {
    unsigned char* p = mine->memory.load(std::memory_order_acquire);
    if (p == nullptr) {
        const std::lock_guard own(mine->allocation);
        p = mine->memory.load(std::memory_order_relaxed);
        if (p == nullptr) {
            p = new unsigned char[bytes];
            std::memset(p, 0xff, bytes);
            mine->memory.store(p, std::memory_order_release);
        }
    }
    return p;
}

void sync_block(const Where& where) { wait_at(mine->whole, 0, where); }

void exchange(unsigned mask, const void* own, std::size_t bytes, const Where& where,
              const std::function<void(const unsigned char* (*of_lane)(unsigned))>& collect) {
    Held held = hold();
    if ((mask >> (me % 32) & 1) == 0) fail("a thread is not in the mask it names");
    std::memcpy(mine->workers[me]->slot.data(), own, bytes);
    Barrier& group = mine->groups[me / 32 * 32 + static_cast<unsigned>(__builtin_ctz(mask))];
    if (together) held.unlock();
    const auto expected = static_cast<unsigned>(__builtin_popcount(mask));
    wait_at(group, expected, where);
    collect([](unsigned lane) -> const unsigned char* {
        return mine->workers[me / 32 * 32 + lane]->slot.data();
    });
    wait_at(group, expected, where);  // before anybody's slot is written again
}

}  // namespace shim

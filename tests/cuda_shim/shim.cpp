// The threads of a block, one at a time, each a context with a stack of its own on the thread that launches:
// to wait at a barrier is to switch to another. Whoever runs first reads what the others have not written,
// and shared memory begins as NaN, so a missing barrier shows every time. ThreadSanitizer is told of each
// context (a fiber) and of what a launch, a barrier and a fence order, and of nothing else: it reports a race
// in whatever order they run. This file is not instrumented: what it does between two contexts would be one.
// A block whose threads all wait or have ended, and cannot go on, is a divergent barrier; a thread that never
// waits and never ends is given up when `patience` ends.
#include "shim.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "core/fp_env.h"
#include "cuda_runtime.h"
#include "fibers.h"

namespace shim {
namespace {

constexpr unsigned kMost = 1024;
constexpr std::size_t kStack = 256 * 1024, kPage = 64 * 1024;  // the largest page of any CPU

// ---- blocks and their threads

enum class State { fresh, ready, waiting, done };

struct Stop {};  // unwinds the threads of a launch that failed

struct Thread {
    State state = State::done;
    Slot slot;
    bool fenced;         // it has been at a fence
    unsigned* counter;   // its last atomic
    ucontext_t context;  // where it waits
    void* stack = nullptr;
    Fiber fiber;
};

struct Barrier {
    unsigned waiting = 0;
    std::array<unsigned, kMost> who;
    unsigned line = 0;
};

struct Block {
    std::array<Thread, kMost> threads;
    unsigned number, done;
    Barrier whole;                      // __syncthreads
    std::array<Barrier, kMost> groups;  // by the first thread of the lanes that meet
    std::vector<unsigned char> memory;  // shared
};

// One after another they take these places, so that no thread of a block is that of the block before it. Two
// where ThreadSanitizer keeps a megabyte for each context.
constexpr unsigned kPlaces = kFibers ? 2 : kAtOnce;
auto& blocks = *new std::array<Block, kPlaces>;
Schedule schedule = Schedule::forward;
std::string failure;  // of the last launches
std::minstd_rand draws;

// ---- of the blocks that run
const std::function<void()>* kernel;
unsigned threads;  // of each
std::vector<Block*> live;
Block* mine;
unsigned me;

bool may_run(const Block& block, unsigned t) {
    const State state = block.threads[t].state;
    return state == State::fresh || state == State::ready;
}

void become(Block& block, unsigned t) {
    mine = &block;
    me = t;
    stand_on(block.threads[t].fiber);
    slot = static_cast<unsigned>(&block - blocks.data());
    threadIdx = {t, 0, 0};
    blockIdx = {block.number, 0, 0};
    blockDim = {threads, 1, 1};
}

// All may run again, in order to end.
void fail(const std::string& what) {
    if (failure.empty()) failure = what;
    for (Block* block : live)
        for (unsigned t = 0; t < threads; ++t)
            if (block->threads[t].state == State::waiting) block->threads[t].state = State::ready;
}

struct Turn {
    Block* block;
    unsigned thread;
};

// The next of these threads of the caller's block that may run, counted from the caller.
bool next_among(unsigned first, unsigned count, Turn& turn) {
    for (unsigned i = 1; i <= count; ++i) {
        const unsigned step = schedule == Schedule::backward ? count - i : i;
        turn = {mine, first + (me - first + step) % count};
        if (may_run(*turn.block, turn.thread)) return true;
    }
    return false;
}

// Any that may run, of all blocks.
bool next_mixed(Turn& turn) {
    const auto count = static_cast<unsigned>(live.size()) * threads;
    const auto first = static_cast<unsigned>(draws() % count);
    for (unsigned i = 0; i < count; ++i) {
        const unsigned at = (first + i) % count;
        turn = {live[at / threads], at % threads};
        if (may_run(*turn.block, turn.thread)) return true;
    }
    return false;
}

// Who goes on when the caller stops. Its warp goes first: one that meets at shuffles would else keep the
// others' pace, and a barrier between warps would never be missed.
bool find_next(Turn& turn) {
    if (schedule == Schedule::mixed) return next_mixed(turn);
    const unsigned warp = me / 32 * 32;
    return next_among(warp, std::min(32u, threads - warp), turn) || next_among(0, threads, turn);
}

std::atomic<unsigned long> progress;  // barriers passed, blocks ended

// Where a barrier orders memory, each who meets there takes over what all have handed over.
void release(Barrier& b, bool orders) {
    progress.fetch_add(1, std::memory_order_relaxed);
    for (unsigned i = 0; i < b.waiting; ++i) {
        Thread& t = mine->threads[b.who[i]];
        t.state = State::ready;
        if (!orders) continue;
        stand_on(t.fiber);
        take_over(&b);
    }
    if (orders) stand_on(mine->threads[me].fiber);
    b.waiting = 0;
}

// ---- contexts

ucontext_t caller;
Fiber callers;
char launched, ended;                    // by these launches are ordered
auto& stacks = *new std::vector<void*>;  // that nobody stands on

void* new_stack() {
    void* const p = mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, kPage, PROT_NONE) != 0) {
        std::fputs("shim: no memory for a stack\n", stderr);
        std::abort();
    }
    return static_cast<char*>(p) + kPage;
}

// Of `me`, from its start to its end.
void run_thread() {
    Thread& thread = mine->threads[me];
    thread.state = State::ready;
    thread.fenced = false;
    thread.counter = nullptr;
    take_over(&launched);
    if (failure.empty()) try {
            (*kernel)();
        } catch (const Stop&) {
        }
    hand_over(&ended);
    thread.state = State::done;
    ++mine->done;
    if (failure.empty() && mine->whole.waiting > 0 && mine->whole.waiting == threads - mine->done)
        release(mine->whole, true);
}

// Who goes on when the caller stops; null where all have ended.
Turn next_turn() {
    Turn turn;
    if (find_next(turn)) return turn;
    if (std::all_of(live.begin(), live.end(), [](const Block* b) { return b->done == threads; })) return {};
    fail("divergent barrier: the threads of a block wait for each other at different places");
    find_next(turn);  // since now all that waited may run
    return turn;
}

void switch_from(ucontext_t& from, const Turn& turn);

// A context's life: threads from start to end, until one has to go on that waits in a context of its own. To
// ThreadSanitizer memory that two threads stand on, one after the other, would be a race.
void context_main() {
    Turn turn{mine, me};
    void* const stack = mine->threads[me].stack;
    do {
        become(*turn.block, turn.thread);
        run_thread();
        turn = next_turn();
    } while (!kFibers && turn.block != nullptr && turn.block->threads[turn.thread].state == State::fresh);
    if (!kFibers) stacks.push_back(stack);
    ucontext_t never;
    switch_from(never, turn);
}

// Lets this thread run, or, if it is null, who launched; the caller goes on when somebody switches to `from`.
void switch_from(ucontext_t& from, const Turn& turn) {
    if (turn.block == nullptr) {
        swapcontext(&from, &caller);
        return;
    }
    Thread& thread = turn.block->threads[turn.thread];
    if (thread.state != State::fresh) {
        swapcontext(&from, &thread.context);
        return;
    }
    if (!kFibers) {
        if (stacks.empty()) stacks.push_back(new_stack());
        thread.stack = stacks.back();
        stacks.pop_back();
    }
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack;
    thread.context.uc_stack.ss_size = kStack;
    makecontext(&thread.context, context_main, 0);
    mine = turn.block;
    me = turn.thread;
    swapcontext(&from, &thread.context);
}

// A thread that has ended is not waited for. Of so many threads, or (0) of all that have not ended.
void wait_at(Barrier& b, unsigned expected, const Where& where, bool orders) {
    if (b.waiting > 0 && b.line != where.line())
        fail("divergent barrier: threads meet at lines " + std::to_string(b.line) + " and " +
             std::to_string(where.line()) + " of " + where.file_name());
    if (!failure.empty()) throw Stop{};  // who has been stopped must not be released
    b.line = where.line();
    b.who[b.waiting++] = me;
    Block& block = *mine;
    const unsigned self = me;
    block.threads[self].state = State::waiting;
    if (orders) hand_over(&b);
    const bool last = b.waiting == (expected > 0 ? expected : threads - block.done);
    if (last) release(b, orders);
    const Turn turn = last && schedule != Schedule::mixed ? Turn{&block, self} : next_turn();
    if (turn.block != &block || turn.thread != self) {
        switch_from(block.threads[self].context, turn);
        become(block, self);
    }
    if (!failure.empty()) throw Stop{};
}

// ---- launches

std::atomic<bool> running{false};

// Counts its own looks, not the time: a process that is stopped does not hang.
void watch() {
    unsigned long last = 0;
    for (int looks = 0; looks < patience; ++looks) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        if (const unsigned long now = progress.load(std::memory_order_relaxed); now != last || !running) {
            last = now;
            looks = 0;
        }
    }
    std::fputs("shim: a thread of a kernel neither waits nor ends\n", stderr);
    std::abort();
}

void begin_block(Block& block, unsigned number) {
    for (unsigned t = 0; t < threads; ++t) {
        Thread& thread = block.threads[t];
        thread.state = State::fresh;
        if (!kFibers || thread.stack != nullptr) continue;
        thread.stack = new_stack();
        thread.fiber = new_fiber();  // here: who is made by a thread of a kernel is ordered behind it
    }
    block.number = number;
    block.done = 0;
    block.whole.waiting = 0;
    for (unsigned t = 0; t < threads; ++t) block.groups[t].waiting = 0;
    std::vector<unsigned char>().swap(block.memory);
}

// The numbers of the blocks, in the order in which they begin.
std::vector<unsigned> order_of(unsigned count) {
    std::vector<unsigned> numbers(count);
    for (unsigned i = 0; i < count; ++i) numbers[i] = i;
    if (schedule == Schedule::backward) std::reverse(numbers.begin(), numbers.end());
    if (schedule == Schedule::mixed) std::shuffle(numbers.begin(), numbers.end(), draws);
    return numbers;
}

}  // namespace

void set_schedule(Schedule s) { schedule = s; }

std::string take_failure() { return std::exchange(failure, ""); }

void launch(unsigned count, unsigned each, const std::function<void()>& f) {
    if (each > kMost) {
        failure = "a block of more than 1024 threads";
        return;
    }
    static const bool watched = (std::thread(watch).detach(), true);
    static_cast<void>(watched);
    const fastnn::FlushDenormals flush;  // as the GPU's code does
    kernel = &f;
    threads = each;
    running = true;
    callers = own_fiber();
    hand_over(&launched);
    const unsigned at_once = schedule == Schedule::mixed ? kPlaces : 1;
    const std::vector<unsigned> numbers = order_of(count);
    for (unsigned i = 0; i < count && failure.empty(); i += at_once) {
        live.clear();
        for (unsigned at = i; at < std::min(i + at_once, count); ++at) {
            live.push_back(&blocks[at % kPlaces]);
            begin_block(*live.back(), numbers[at]);
        }
        switch_from(caller, {live.front(), schedule == Schedule::backward ? threads - 1 : 0});
        stand_on(callers);
        take_over(&ended);
        progress.fetch_add(1, std::memory_order_relaxed);
    }
    running = false;
}

void* shared(std::size_t bytes) {
    if (mine->memory.empty()) {
        mine->memory.assign(bytes, 0xff);
        hand_over(&mine->memory);
    }
    take_over(&mine->memory);
    return mine->memory.data();
}

void sync_block(const Where& where) { wait_at(mine->whole, 0, where, true); }

namespace {
void meet(unsigned mask, const Where& where, bool orders) {
    if ((mask >> (me % 32) & 1) == 0) fail("a thread is not in the mask it names");
    Barrier& group = mine->groups[me / 32 * 32 + static_cast<unsigned>(__builtin_ctz(mask))];
    wait_at(group, static_cast<unsigned>(__builtin_popcount(mask)), where, orders);
}
}  // namespace

void sync_lanes(unsigned mask, const Where& where) { meet(mask, where, true); }

void exchange(unsigned mask, const void* own, std::size_t bytes, const Where& where,
              const std::function<void(const Slot* (*of_lane)(unsigned))>& collect) {
    const auto* const from = static_cast<const unsigned char*>(own);
    for (std::size_t i = 0; i < bytes; ++i) mine->threads[me].slot.bytes[i] = from[i];
    meet(mask, where, false);
    collect([](unsigned lane) -> const Slot* { return &mine->threads[me / 32 * 32 + lane].slot; });
    meet(mask, where, false);  // before anybody's slot is written again
}

void fence() {
    Thread& thread = mine->threads[me];
    thread.fenced = true;
    if (thread.counter != nullptr) take_over(thread.counter);
}

void counted(unsigned* counter) {
    Thread& thread = mine->threads[me];
    thread.counter = counter;
    if (thread.fenced) hand_over(counter);
}

}  // namespace shim

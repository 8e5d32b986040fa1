#include "core/team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "core/fp_env.h"
#include "core/pages.h"
#include "core/threads.h"

namespace fastnn {
namespace {

using Word = std::uint64_t;

// Measured on 2 cores: waking a parked worker costs 5 to 10 us, a hot region under 1 us.
constexpr double kBreakEvenNs = 6000;
constexpr double kWakeNs = 15000;  // parked workers are woken only for more work than this
constexpr Index kSpinNs = 40000, kStaySpinNs = 1'000'000;  // until a worker parks: outside, inside a region
constexpr Index kLateNs = 60000;  // waiting this much longer than a chunk takes: its owner lost the core
// Serial after two late regions in a row: for a moment, or, where that did not help, for longer each time.
constexpr Index kSerialNs = 2'000'000, kMaxSerialNs = 128'000'000;
constexpr Index kPollNs = 50'000'000;
constexpr double kPollableNs = 1e6;  // estimated for a fast ISA: the scalar path takes 100 times longer

Index now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return Index{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

void futex(std::atomic<std::uint32_t>& word, int op, std::uint32_t value) {
    syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), op | FUTEX_PRIVATE_FLAG, value, nullptr,
            nullptr, 0);
}

// ---- memory of one thread ------------------------------------------------------------------------------

std::atomic<Index> g_workspace_bytes{0};

class Buffer {
 public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(); }

    // Null if there is no memory.
    unsigned char* try_reserve(Index bytes) noexcept {
        if (bytes > size_) {
            release();
            data_ = static_cast<unsigned char*>(allocate_pages(bytes));
            if (data_ == nullptr) return nullptr;
            size_ = bytes;
            g_workspace_bytes += bytes;
        }
        return data_;
    }

    unsigned char* reserve(Index bytes) {
        unsigned char* data = try_reserve(bytes);
        if (data == nullptr && bytes > 0) throw std::bad_alloc();
        return data;
    }

 private:
    void release() {
        if (data_ == nullptr) return;
        std::free(data_);
        g_workspace_bytes -= size_;
        data_ = nullptr;
        size_ = 0;
    }
    unsigned char* data_ = nullptr;
    Index size_ = 0;
};

thread_local Buffer t_scratch;
thread_local Buffer t_workspace[2];  // [1]: for a signal handler's calls while a region is polled
thread_local int t_polls = 0;
thread_local bool t_alone = false;

// Asks the poll function between chunks, with the caller's floating-point environment restored.
class Poller {
 public:
    Poller(Poll poll, const FlushDenormals& flush) : poll_(poll), flush_(flush), last_(poll ? now_ns() : 0) {}

    bool cancels() {
        if (poll_ == nullptr || now_ns() - last_ < kPollNs) return false;
        ++t_polls;
        flush_.suspend();
        const bool cancel = poll_();
        flush_.resume();
        --t_polls;
        last_ = now_ns();
        return cancel;
    }

 private:
    Poll poll_;
    const FlushDenormals& flush_;
    Index last_;
};

// ---- the word every claim goes through ------------------------------------------------------------------

// front: 20 bits | back: 20 bits | phase: 8 bits | epoch: 16 bits. Work is left while front < back.
constexpr Word kMask20 = (Word{1} << 20) - 1;
constexpr int kMaxChunks = (1 << 20) - 1;

Word front_of(Word s) { return s & kMask20; }
Word back_of(Word s) { return (s >> 20) & kMask20; }
unsigned phase_of(Word s) { return static_cast<unsigned>(s >> 40) & 0xff; }
Word pack(Word epoch, unsigned phase, int chunks) {
    return (epoch & 0xffff) << 48 | Word{phase} << 40 | static_cast<Word>(chunks) << 20;
}

class Team {
 public:
    explicit Team(int workers) {
        threads_.reserve(static_cast<std::size_t>(workers));
        for (int id = 1; id <= workers; ++id) {
            try {
                threads_.emplace_back([this, id] { work(id); });
            } catch (const std::exception&) {
                break;  // no more threads, or no memory for one: a smaller team, the same results
            }
        }
    }

    ~Team() {
        quit_.store(true);
        wake();
        for (std::thread& t : threads_) t.join();
    }

    // Called by one thread at a time (the owner of the team's lock).
    bool run(const Task* tasks, int count, double cost_ns, Scratch& scratch, Poller& poller) {
        if (const int cpu = sched_getcpu(); cpu != caller_cpu_) keep_clear_of(cpu);
        std::copy(tasks, tasks + count, tasks_);
        count_ = count;
        cancelled_.store(false, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        ++epoch_;
        finished_.store(false, std::memory_order_relaxed);
        state_.store(pack(epoch_, 0, tasks_[0].chunks), std::memory_order_seq_cst);
        const bool woken = parked_.load(std::memory_order_seq_cst) > 0 && cost_ns > kWakeNs;
        if (woken) wake();

        Index mark = now_ns();  // start of the chunk that runs, or of the wait
        Index longest_chunk = 0, longest_wait = 0;
        bool waiting = false;
        for (int spins = 1; !finished_.load(std::memory_order_acquire); ++spins) {
            if (claim(0, scratch)) {
                const Index t = now_ns();
                if (!waiting) longest_chunk = std::max(longest_chunk, t - mark);
                mark = t;
                waiting = false;
                if (poller.cancels()) cancelled_.store(true, std::memory_order_relaxed);
                continue;
            }
            // Another thread holds the last chunks of this phase.
            waiting = true;
            pause();
            if (spins % 64 != 0) continue;
            longest_wait = std::max(longest_wait, now_ns() - mark);
            if (longest_wait > kLateNs) sched_yield();
        }
        if (!woken) note_late(longest_wait > 2 * longest_chunk + kLateNs);
        return !cancelled_.load(std::memory_order_relaxed);
    }

    bool serial_now() const { return now_ns() < serial_until_; }

 private:
    // Workers may run on every CPU of the caller but the one it runs on. Left to itself the kernel wakes a
    // worker there and lets both share it for milliseconds (a 512^3 product: 7 ms on 2 CPUs against 1.5).
    void keep_clear_of(int cpu) {
        caller_cpu_ = cpu;
        cpu_set_t set;
        if (cpu < 0 || sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return;
        CPU_CLR(static_cast<unsigned>(cpu), &set);
        for (std::thread& t : threads_) pthread_setaffinity_np(t.native_handle(), sizeof set, &set);
    }

    // Runs one chunk if there is one to claim.
    bool claim(int id, Scratch& scratch) {
        Word s = state_.load(std::memory_order_acquire);
        if (front_of(s) >= back_of(s)) return false;
        const bool from_back = (id & 1) != 0;
        const Word next = from_back ? s - (Word{1} << 20) : s + 1;
        if (!state_.compare_exchange_strong(s, next, std::memory_order_acq_rel)) return true;  // look again
        const int chunk = static_cast<int>(from_back ? back_of(s) - 1 : front_of(s));
        const unsigned phase = phase_of(s);
        const Task& t = tasks_[phase];  // stable: the region cannot end while this chunk is not done
        const int chunks = t.chunks;
        if (!cancelled_.load(std::memory_order_relaxed)) t.call(t, t.at(chunk), scratch);
        if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) advance(phase + 1);
        return true;
    }

    void advance(unsigned phase) {
        if (static_cast<int>(phase) == count_) {
            finished_.store(true, std::memory_order_release);
            return;
        }
        const int chunks = tasks_[phase].chunks;  // once the phase is open, the region may end
        done_.store(0, std::memory_order_relaxed);
        state_.store(pack(epoch_, phase, chunks), std::memory_order_seq_cst);
        if (chunks > 1 && parked_.load(std::memory_order_seq_cst) > 0) wake();  // docs/performance.md
    }

    void work(int id) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);  // Python's handlers run on Python's threads
        FlushDenormals flush;
        // No thread_local memory and no exception: for a thread's first of either the system's libraries
        // allocate, and end the process if they cannot.
        Buffer memory;
        Scratch scratch{memory.try_reserve(kScratchBytes)};
        if (scratch.data == nullptr) return;  // one worker less
        Index idle_since = now_ns();
        for (int spins = 1; !quit_.load(std::memory_order_relaxed); ++spins) {
            if (claim(id, scratch)) {
                idle_since = 0;
                continue;
            }
            pause();
            if (spins % 64 != 0) continue;
            const Index t = now_ns();
            if (idle_since == 0) idle_since = t;
            const bool inside = !finished_.load(std::memory_order_relaxed);
            if (t - idle_since > (inside ? kStaySpinNs : kSpinNs)) {
                park();
                idle_since = 0;
            }
        }
    }

    void park() {
        parked_.fetch_add(1, std::memory_order_seq_cst);
        const std::uint32_t ticket = wake_.load(std::memory_order_seq_cst);
        const Word s = state_.load(std::memory_order_seq_cst);
        if (front_of(s) >= back_of(s) && !quit_.load(std::memory_order_seq_cst))
            futex(wake_, FUTEX_WAIT, ticket);
        parked_.fetch_sub(1, std::memory_order_seq_cst);
    }

    void wake() {
        wake_.fetch_add(1, std::memory_order_seq_cst);
        futex(wake_, FUTEX_WAKE, INT_MAX);
    }

    void note_late(bool late) {
        late_in_a_row_ = late ? late_in_a_row_ + 1 : 0;
        if (late_in_a_row_ < 2) return;
        late_in_a_row_ = 0;
        const Index now = now_ns();
        const bool again = now - serial_until_ < 4 * serial_ns_;
        serial_ns_ = again ? std::min(2 * serial_ns_, kMaxSerialNs) : kSerialNs;
        serial_until_ = now + serial_ns_;
    }

    alignas(64) std::atomic<Word> state_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<bool> finished_{true};
    std::atomic<bool> cancelled_{false};
    std::atomic<bool> quit_{false};
    alignas(64) std::atomic<std::uint32_t> wake_{0};
    std::atomic<int> parked_{0};
    Task tasks_[kMaxTasks];
    int count_ = 0;
    int caller_cpu_ = -1;
    Word epoch_ = 0;
    int late_in_a_row_ = 0;
    Index serial_ns_ = kSerialNs, serial_until_ = 0;
    std::vector<std::thread> threads_;
};

// ---- the one team of the process ------------------------------------------------------------------------

std::atomic<bool> g_busy{false};  // owner of g_team
Team* g_team = nullptr;           // made at the first region that wants it; never destroyed at exit
std::atomic<int> g_threads{0};    // 0: not asked yet

struct BusyLock {
    bool owned;
    BusyLock() : owned(!g_busy.exchange(true, std::memory_order_acquire)) {}
    ~BusyLock() {
        if (owned) g_busy.store(false, std::memory_order_release);
    }
    BusyLock(const BusyLock&) = delete;
    BusyLock& operator=(const BusyLock&) = delete;
};

// A child of fork has only the forking thread: the old team is left behind and a new one made when needed.
void after_fork_in_child() {
    g_team = nullptr;
    g_busy.store(false);
}

bool run_serial(const Task* tasks, int count, Scratch& scratch, Poller& poller) {
    for (int i = 0; i < count; ++i) {
        for (int chunk = 0; chunk < tasks[i].chunks; ++chunk) {
            tasks[i].call(tasks[i], tasks[i].at_alone(chunk), scratch);
            if (poller.cancels()) return false;
        }
    }
    return true;
}

}  // namespace

bool run_tasks(const Task* tasks, int count, double cost_ns, Poll poll) {
    Task live[kMaxTasks];
    int n = 0;
    int widest = 0;
    for (int i = 0; i < count; ++i) {
        if (tasks[i].chunks == 0) continue;
        widest = std::max(widest, tasks[i].chunks);
        live[n++] = tasks[i];
    }
    Scratch scratch{t_scratch.reserve(kScratchBytes)};
    const FlushDenormals flush;
    Poller poller(cost_ns > kPollableNs && t_polls == 0 ? poll : nullptr, flush);
    if (cost_ns > kBreakEvenNs && widest > 1 && widest <= kMaxChunks && num_threads() > 1 && !t_alone) {
        const BusyLock lock;
        if (lock.owned) {
            if (g_team == nullptr) {
                static std::once_flag once;
                std::call_once(once, [] { pthread_atfork(nullptr, nullptr, after_fork_in_child); });
                g_team = new Team(num_threads() - 1);
            }
            if (!g_team->serial_now()) return g_team->run(live, n, cost_ns, scratch, poller);
        }
    }
    return run_serial(live, n, scratch, poller);
}

void stay_on_this_thread() { t_alone = true; }

int num_threads() {
    int n = g_threads.load(std::memory_order_relaxed);
    if (n == 0) {
        n = default_num_threads();
        g_threads.store(n, std::memory_order_relaxed);
    }
    return n;
}

void set_num_threads(int n) {
    while (g_busy.exchange(true, std::memory_order_acquire)) sched_yield();
    if (n != num_threads()) {
        delete g_team;
        g_team = nullptr;
        g_threads.store(n);
    }
    g_busy.store(false, std::memory_order_release);
}

Index workspace_bytes() { return g_workspace_bytes.load(); }

float* workspace(Index floats) {
    return reinterpret_cast<float*>(
        t_workspace[t_polls].reserve(std::max<Index>(floats, 16) * Index{sizeof(float)}));
}

double fork_join_seconds(int repeats) {
    const Kernel<int> empty = {[](const int& threads) { return threads; }, [](const int&, int, Scratch&) {}};
    const int threads = num_threads();
    const Task t = task(empty, threads);
    const Index start = now_ns();
    for (int i = 0; i < repeats; ++i) run_tasks(&t, 1, 1e9, nullptr);
    return static_cast<double>(now_ns() - start) * 1e-9 / repeats;
}

}  // namespace fastnn

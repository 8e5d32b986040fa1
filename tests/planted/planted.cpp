// Bugs on purpose: the sanitizer tier must report each, or its silence about the kernels means nothing.
// Built with FASTNN_SANITIZE only and never installed. The kernels run on the real thread team.
#include <cstdint>
#include <deque>

#include "core/team.h"
#include "program/regions.h"

namespace {

using fastnn::Index;
using fastnn::Kernel;
using fastnn::Scratch;

struct Args {
    float* data;  // `n` elements
    Index n;
};

constexpr int kChunks = 64;

int chunks(const Args&) { return kChunks; }
int one_chunk(const Args&) { return 1; }

// Long enough that a worker gets its share of the chunks.
void linger() {
    for (int i = 0; i < 20000; ++i) __asm__ volatile("" ::: "memory");
}

void own_element(const Args& a, int chunk, Scratch&) {
    linger();
    a.data[chunk] += 1.0F;
}

void neighbour(const Args& a, int chunk, Scratch&) {
    linger();
    a.data[kChunks + chunk] = a.data[(chunk + 1) % kChunks];
}

void first_element(const Args& a, int, Scratch&) {
    linger();
    a.data[0] += 1.0F;
}

void one_past_the_end(const Args& a, int chunk, Scratch&) {
    if (chunk == kChunks - 1) a.data[0] = a.data[a.n];
}

void run(void (*first)(const Args&, int, Scratch&), void (*second)(const Args&, int, Scratch&), float* data,
         Index n) {
    const Args args{data, n};
    const fastnn::Task tasks[] = {fastnn::task(Kernel<Args>{chunks, first}, args),
                                  fastnn::task(Kernel<Args>{chunks, second}, args)};
    fastnn::set_num_threads(2);
    for (int i = 0; i < 100; ++i) fastnn::run_tasks(tasks, 2, 1e9, nullptr);
}

// As a training step: each block of rows through two kernels, then two tasks that need every row, with a
// barrier before the second, or side by side.
void run_step(float* data, bool barrier) {
    std::deque<Args> rows;
    fastnn::program::ByRows blocks;
    for (int i = 0; i < kChunks; ++i) {
        const Args& row = rows.emplace_back(Args{data + i, 1});
        const fastnn::Task task = fastnn::task(Kernel<Args>{one_chunk, own_element}, row);
        blocks.blocks.push_back({task, task});
    }
    const Args all{data, 2 * kChunks};
    fastnn::program::Together first, second;
    first.add(fastnn::task(Kernel<Args>{chunks, own_element}, all));
    (barrier ? second : first).add(fastnn::task(Kernel<Args>{chunks, neighbour}, all));
    const fastnn::Task tasks[] = {blocks.task(), first.task(), barrier ? second.task() : blocks.task()};
    fastnn::set_num_threads(2);
    for (int i = 0; i < 100; ++i) fastnn::run_tasks(tasks, 3, 1e9, nullptr);
}

}  // namespace

#define PLANTED extern "C" __attribute__((visibility("default")))

// No bug: two phases on many threads, the second reads what other chunks of the first wrote; the same by the
// regions of a program. `data` holds at least 128 floats.
PLANTED void clean(float* data, std::int64_t n) {
    run(own_element, neighbour, data, n);
    run_step(data, true);
}

// Two chunks of one phase write one element.
PLANTED void race(float* data, std::int64_t n) { run(first_element, neighbour, data, n); }

// A region of a program holds what reads and what writes.
PLANTED void missing_barrier(float* data, std::int64_t) { run_step(data, false); }

// A chunk reads the float behind the array.
PLANTED void overread(float* data, std::int64_t n) { run(one_past_the_end, neighbour, data, n); }

// A signed integer overflows.
PLANTED void overflow(float* data, std::int64_t n) {
    data[0] = static_cast<float>(static_cast<int>(n) + 0x7fffffff);
}

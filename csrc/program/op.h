// One operation of a program: what it reads and writes, and the kernel calls that it becomes for a batch.
#pragma once

#include <deque>
#include <vector>

#include "core/cost.h"
#include "core/kernels.h"
#include "core/team.h"
#include "program/recording.h"

namespace fastnn::program {

// The number of a buffer; buffer 0 is the batch, as float32 rows.
using Ref = int;
inline constexpr Ref kNone = -1;
inline constexpr Ref kInput = 0;

// per_row floats for each row of the batch and `fixed` floats once.
struct Buffer {
    Index per_row, fixed;
};

// What tasks do, and how long one thread may take.
struct Work {
    double flops = 0, floats = 0;  // of products; moved by the rest
    double ns = 0;

    Work& operator+=(const Work& more) {
        flops += more.flops;
        floats += more.floats;
        ns += more.ns;
        return *this;
    }
};

// Rows of a batch for which an operation is prepared, and what `prepare` adds to.
struct Place {
    Index begin, rows;  // all of the batch, or (by_rows) a block of it
    Index total;        // rows of the batch
    const Kernels& kernels;
    const std::vector<Buffer>& buffers;
    const std::vector<float*>& memory;  // of each buffer
    float* scratch;                     // Op::scratch floats
    bool weighted;                      // the batch has sample weights
    bool in_blocks = false;             // of rows, so that each weight is read several times
    Recording* device = nullptr;        // what is added is launched there; null: tasks of the CPU
    bool tf32 = false;                  // there products round to TF32
    unsigned* counts = nullptr;         // there, Op::counts of them
    std::vector<Task> tasks{};
    Work work{};

    // Where the rows of this place begin in a buffer.
    float* at(Ref ref) const {
        return ref == kNone ? nullptr : whole(ref) + begin * buffers[static_cast<std::size_t>(ref)].per_row;
    }
    bool multiplies_bf16(const Kernels& table) const { return device != nullptr || table.multiplies_bf16; }
    // The same of a buffer of rounded numbers, which may take half the memory.
    void* rounded_at(Ref ref) const {
        if (!multiplies_bf16(kernels)) return at(ref);
        return reinterpret_cast<BFloat16*>(whole(ref)) +
               begin * buffers[static_cast<std::size_t>(ref)].per_row;
    }
    float* whole(Ref ref) const { return memory[static_cast<std::size_t>(ref)]; }

    template <class Args>
    void add(const Kernel<Args>& kernel, const Args& args) {
        if (device != nullptr) return device->add(args);
        tasks.push_back(task(kernel, args));
    }
    template <class Args, std::size_t phases>
    void add(const Kernel<Args> (&kernel)[phases], const Args& args) {
        if (device != nullptr) return device->add(args);
        for (const Kernel<Args>& phase : kernel) add(phase, args);
    }
    // Where kernels find what is set before each run.
    template <class T>
    const T* live(const T& own) {
        return device != nullptr ? device->live(&own, 1) : &own;
    }

    // `floats` numbers are moved; a kernel that computes much takes as long as one that moves `as_long_as`.
    void moves(double floats, double as_long_as = 0) {
        work += {0, floats, stream_ns(as_long_as > 0 ? as_long_as : floats)};
    }
};

// How an operation may be put beside others.
enum class Kind {
    first,    // reads parameters alone: side by side, before all others
    whole,    // needs every row of what it reads: a region of its own
    by_rows,  // a row of what it writes needs that row alone
    last      // nobody reads what it writes before the update: any time after what it reads
};

class Op {
 public:
    virtual ~Op() = default;
    virtual const char* name() const = 0;
    virtual Kind kind() const = 0;
    // The buffers it touches: each is kept from the first operation that does to the last.
    virtual std::vector<Ref> touches() const = 0;
    virtual Ref panels() const { return kNone; }      // one more, where the batch is in blocks of rows
    virtual Index scratch(Index) const { return 0; }  // floats for a batch of so many rows
    virtual Index counts(Index) const { return 0; }   // integers, 0 when a step begins; on a device alone
    virtual Index least_rows() const { return 1; }    // of a batch
    // Serial work around each run; one of the last two, by whether the run was cancelled: then what changed
    // beside the arena and the gradients is put back.
    virtual void before_run() {}
    virtual void after_run() {}
    virtual void cancelled() {}
    // Fills arguments, which stay where they are until `forget`, and adds the kernel calls.
    virtual void prepare(Place& place) = 0;
    virtual void forget() = 0;
    // What was prepared finds the buffer so many floats further on: one that is the caller's array, of which
    // each batch is another part.
    virtual void move(Ref buffer, Index floats) = 0;
};

// An operation whose kernels take one kind of arguments.
template <class Args>
class OpOf : public Op {
 public:
    void forget() override { args_.clear(); }
    void move(Ref buffer, Index floats) override {
        for (Args& args : args_) move(args, buffer, floats);
    }

 protected:
    // For those that a forward is made of.
    virtual void move(Args&, Ref, Index) {}
    template <class Pointer>
    static void move_if(bool moves, Pointer& pointer, Index floats) {
        if (moves) pointer += floats;
    }
    Args& fresh() { return args_.emplace_back(); }
    std::deque<Args> args_;  // one for each block of rows
};

}  // namespace fastnn::program

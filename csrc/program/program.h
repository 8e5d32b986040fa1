// A training step as few parallel regions over one arena. A program knows a network's operations; for each
// new batch size it plans the regions, then the arena (buffers that never live at the same time share
// memory), and fills in every argument once, so that a step only changes what the batch brings.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "program/losses.h"
#include "program/ops.h"
#include "program/pace.h"
#include "program/regions.h"
#include "program/update.h"

namespace fastnn::program {

// What a step takes from the data set: `order` of the sources and of the targets has a place for each row.
struct Batch {
    RowSource x;
    RowSource values;  // of a loss that takes values
    Targets targets;
    Index rows;
};

// An operation of a planned program: its number, that of its region, the blocks of rows that it is cut into
// there (0: it is not), and its work.
struct Line {
    std::size_t op, region;
    Index blocks;
    Work work;
};

enum class Outcome { done, bad_batch, refused, cancelled };

class Program {
 public:
    // The loss is the operation of this number; its `work` buffer is added here. The first operation that
    // is not `Kind::first` gathers the batch, and the one before the loss its values, where it takes any.
    // chains: what is by rows runs block by block.
    Program(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops, bool chains, std::size_t loss,
            std::shared_ptr<Update> update);
    // A forward alone, whose result is the buffer `pred`.
    Program(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops, bool chains, Ref pred);
    virtual ~Program() = default;
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    // Ready for batches of n rows with the active ISA; plans where something is new. Throws std::bad_alloc,
    // and then the next call plans again.
    void prepare(Index n, bool weighted);
    // One step. bad_batch, refused (see update) and cancelled: no parameter has changed; cancelled: no
    // running statistics either.
    Outcome step(const Batch& batch, std::int64_t number, const GroupNumbers* numbers, Poll poll);

    // n rows through a forward alone into `out`, from where they lie if they need no conversion. False:
    // `poll` cancelled. Throws std::bad_alloc.
    bool forward(const RowSource& x, Index n, float* out, Poll poll);

    Loss& loss() { return *loss_; }
    Update& update() { return *update_; }
    const float* prediction() const { return memory_[static_cast<std::size_t>(pred_)]; }
    Index outputs() const { return buffers_[static_cast<std::size_t>(pred_)].per_row; }
    double cost_ns() const { return cost_ns_ + update_->cost_ns(); }
    virtual Index arena_bytes(Index n) const;
    // Of the batch size that is prepared: the operations (on a device each is a region), and the seconds that
    // each region and then the update take, run by itself (the parameters' gradients and running statistics
    // change, and so does what an update changes).
    const std::vector<Line>& lines() const { return lines_; }
    std::vector<double> time_regions(int repeats);
    Index least_rows() const { return least_rows_; }

 protected:
    // Operations between two barriers.
    struct Region {
        std::size_t begin, end;  // in ops_
        bool by_rows;            // all of them, block by block
    };
    struct Plan {
        std::vector<Region> regions;
        Index block;                 // rows
        std::vector<Index> offsets;  // floats from the start, for each buffer
        std::vector<Index> scratch;  // for each operation
        Index floats;
    };
    Plan plan(Index n) const;

    std::vector<Buffer> buffers_;
    std::vector<std::unique_ptr<Op>> ops_;
    bool chains_;
    Gather* x_;
    Gather* values_ = nullptr;
    Loss* loss_ = nullptr;  // null in a forward alone
    Ref pred_;
    std::vector<Line> lines_;
    std::shared_ptr<Update> update_;
    std::vector<float*> memory_;  // of each buffer
    Index least_rows_ = 1;
    bool branches_ = false;  // operations run beside those that follow them, as far as their kind allows

 private:
    bool is_callers(Ref buffer) const;
    void reserve(Index floats);
    void lay_out(Plan& plan, Index n) const;
    void build(const Plan& plan, Index n, bool weighted);
    bool run(const std::vector<Task>& tasks, double cost_ns, Poll poll);
    // What the operations, or the update, cost in the way that the next step runs.
    double paced(double cost_ns) const { return pace_ != nullptr && pace_->alone() ? 0 : cost_ns; }
    template <class Step>
    auto at_pace(Step step);

    struct Free {
        void operator()(float* p) const;
    };

    Index n_ = 0;
    bool weighted_ = false;
    bool direct_ = false;  // the batch is not gathered but read where it lies
    const Kernels* kernels_ = nullptr;
    std::unique_ptr<float, Free> arena_;
    Index arena_floats_ = 0;
    std::deque<Together> together_;
    std::deque<ByRows> by_rows_;
    std::vector<Task> tasks_, all_;  // all_: with the update's
    double cost_ns_ = 0;
    std::map<std::pair<Index, int>, Pace> paces_;  // for each batch size and number of threads
    Pace* pace_ = nullptr;                         // of the running step, where it is short
};

}  // namespace fastnn::program

#include "program/program.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iterator>
#include <new>
#include <utility>

#include "core/dispatch.h"
#include "core/pages.h"

namespace fastnn::program {
namespace {

constexpr Index kAlign = 16;  // floats: one cache line

Index aligned(Index floats) { return (floats + kAlign - 1) / kAlign * kAlign; }

// As estimated. A thread's part of a longer step is long beside what handing it over takes; a shorter one is
// not asked for signals, and is one list of phases with its update: of 64-64-64-10 one thread did that alone,
// a third of the step.
constexpr double kLongNs = 1e6;

// Rows of a block: enough blocks for a few threads, alike and of an even number for two (48 rows of
// 64-64-64-10 in three blocks took 1.1 times as long as in four), not so few rows that weights are read over
// and over. By the batch alone, so that the bits of a loss do not depend on threads. A forward alone may take
// longer ones: 10 % less time for 1,000 rows through 17-64-64-6.
Index rows_of_block(Index n, bool forward) {
    if (n <= 16) return n;
    const Index wished = n <= 96 ? 16 : forward && n >= 384 ? 48 : 24;
    const Index pairs = std::max<Index>((n + wished) / (2 * wished), 1);
    return (n + 2 * pairs - 1) / (2 * pairs);
}

}  // namespace

void Program::Free::operator()(float* p) const { std::free(p); }

Program::Program(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops, bool chains,
                 std::size_t loss, std::shared_ptr<Update> update)
    : Program(std::move(buffers), std::move(ops), chains, kNone) {
    loss_ = dynamic_cast<Loss*>(ops_.at(loss).get());
    pred_ = loss_->pred;
    update_ = std::move(update);
    values_ = loss_->target == kNone ? nullptr : dynamic_cast<Gather*>(ops_.at(loss - 1).get());
    for (const auto& op : ops_) least_rows_ = std::max(least_rows_, op->least_rows());
    loss_->work = static_cast<Ref>(buffers_.size());
    buffers_.push_back({loss_->work_floats(), Loss::kWorkFloats});
}

Program::Program(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops, bool chains, Ref pred)
    : buffers_(std::move(buffers)),
      ops_(std::move(ops)),
      chains_(chains),
      pred_(pred),
      update_(std::make_shared<Update>()) {
    const auto begin =
        std::find_if(ops_.begin(), ops_.end(), [](const auto& op) { return op->kind() != Kind::first; });
    x_ = dynamic_cast<Gather*>(begin->get());
}

// Whether it lies in an array of the caller's.
bool Program::is_callers(Ref buffer) const {
    return (direct_ && buffer == kInput) || (loss_ == nullptr && buffer == pred_);
}

// Operations by rows that follow each other are one region where there are chains. Else each is one, but
// what is `last` goes with the operation after it, which only reads the same.
Program::Plan Program::plan(Index n) const {
    Plan found{{}, chains_ ? rows_of_block(n, loss_ == nullptr) : n, {}, {}, 0};
    for (std::size_t i = 0; i < ops_.size();) {
        std::size_t end = i + 1;
        if (direct_ && ops_[i].get() == x_) {
            i = end;
            continue;
        }
        const Kind kind = ops_[i]->kind();
        if (kind == Kind::first) {
            while (ops_[end]->kind() == Kind::first) ++end;
            found.regions.push_back({i, end, false});
            i = end;
            continue;
        }
        const bool by_rows = kind != Kind::whole && chains_;
        if (by_rows) {
            while (end < ops_.size() && ops_[end]->kind() != Kind::whole) ++end;
        } else if (kind == Kind::last) {
            while (end < ops_.size() && ops_[end]->kind() == Kind::last) ++end;
            if (end < ops_.size() && ops_[end]->kind() == Kind::by_rows) ++end;
        }
        found.regions.push_back({i, end, by_rows});
        i = end;
    }
    lay_out(found, n);
    return found;
}

// First fit: buffers in the order of their first use, each at the lowest place that no buffer alive in the
// same region takes. What an operation that is `last` reads lives to the end: where chains are used it runs
// there, and in branches nobody waits for it before.
void Program::lay_out(Plan& found, Index n) const {
    struct Life {
        std::size_t first, last;
        Index floats;
        Index* place;
    };
    std::vector<Life> lives(buffers_.size(), Life{0, 0, -1, nullptr});
    found.offsets.assign(buffers_.size(), 0);
    found.scratch.assign(ops_.size(), 0);
    const std::size_t end = found.regions.size();
    for (std::size_t r = 0; r < end; ++r) {
        const Region& region = found.regions[r];
        for (std::size_t i = region.begin; i < region.end; ++i) {
            const bool late = ops_[i]->kind() == Kind::last;
            std::vector<Ref> touched = ops_[i]->touches();
            if (found.block < n) touched.push_back(ops_[i]->panels());
            for (const Ref ref : touched) {
                if (ref == kNone || is_callers(ref)) continue;
                const auto at = static_cast<std::size_t>(ref);
                Life& life = lives[at];
                const Buffer& buffer = buffers_[at];
                if (life.floats < 0)
                    life = {r, r, aligned(n * buffer.per_row + buffer.fixed), &found.offsets[at]};
                life.last = std::max(life.last, late && (region.by_rows || branches_) ? end : r);
            }
            if (const Index floats = ops_[i]->scratch(n); floats > 0)
                lives.push_back({r, late ? end : r, aligned(floats), &found.scratch[i]});
        }
    }
    if (loss_ != nullptr) {
        for (const Ref ref : {loss_->pred, loss_->work, loss_->target}) {  // read after the step
            if (ref != kNone) lives[static_cast<std::size_t>(ref)].last = end;
        }
        lives[static_cast<std::size_t>(loss_->work)].first = 0;  // written before it
        if (branches_ && values_ != nullptr) lives[static_cast<std::size_t>(loss_->target)].first = 0;
    }
    std::erase_if(lives, [](const Life& life) { return life.floats < 0; });
    std::stable_sort(lives.begin(), lives.end(),
                     [](const Life& a, const Life& b) { return a.first < b.first; });
    std::vector<std::pair<Index, Index>> taken;
    for (std::size_t i = 0; i < lives.size(); ++i) {
        taken.clear();
        for (std::size_t j = 0; j < i; ++j) {
            if (lives[j].last >= lives[i].first)
                taken.emplace_back(*lives[j].place, *lives[j].place + lives[j].floats);
        }
        std::sort(taken.begin(), taken.end());
        Index place = 0;
        for (const auto& [begin, stop] : taken) {
            if (place + lives[i].floats <= begin) break;
            place = std::max(place, stop);
        }
        *lives[i].place = place;
        found.floats = std::max(found.floats, place + lives[i].floats);
    }
}

Index Program::arena_bytes(Index n) const { return plan(n).floats * Index{sizeof(float)}; }

void Program::prepare(Index n, bool weighted) {
    const Kernels& kernels = fastnn::kernels();
    update_->prepare(kernels);
    if (n == n_ && weighted == weighted_ && &kernels == kernels_) return;
    n_ = 0;
    const Plan found = plan(n);
    reserve(found.floats);
    kernels_ = &kernels;
    build(found, n, weighted);
    weighted_ = weighted;
    n_ = n;
}

void Program::reserve(Index floats) {
    if (floats <= arena_floats_) return;
    arena_.reset();
    arena_floats_ = 0;
    Index bytes = floats * Index{sizeof(float)};
    arena_.reset(static_cast<float*>(allocate_pages(bytes)));
    if (!arena_) throw std::bad_alloc();
    arena_floats_ = floats;
}

void Program::build(const Plan& found, Index n, bool weighted) {
    memory_.resize(buffers_.size());
    for (std::size_t i = 0; i < buffers_.size(); ++i)
        if (!is_callers(static_cast<Ref>(i))) memory_[i] = arena_.get() + found.offsets[i];
    for (const auto& op : ops_) op->forget();
    together_.clear();
    by_rows_.clear();
    tasks_.clear();
    lines_.clear();
    cost_ns_ = 0;
    const auto place_of = [&](std::size_t i, Index begin, Index rows) {
        return Place{.begin = begin,
                     .rows = rows,
                     .total = n,
                     .kernels = *kernels_,
                     .buffers = buffers_,
                     .memory = memory_,
                     .scratch = arena_.get() + found.scratch[i],
                     .weighted = weighted,
                     .in_blocks = found.block < n};
    };
    const auto prepared = [&](std::size_t i, Index begin, Index rows, Work& work) {
        Place place = place_of(i, begin, rows);
        ops_[i]->prepare(place);
        work += place.work;
        cost_ns_ += place.work.ns;
        return std::move(place.tasks);
    };
    constexpr std::size_t kBeforeEnd = SIZE_MAX;  // the region that `before_end` becomes
    const auto note = [&](std::size_t i, std::size_t region, Index blocks, const Work& work) {
        lines_.push_back({i, region, blocks, work});
    };
    Together& before_end = together_.emplace_back();  // what is last, where it waited, and
    Together& at_end = together_.emplace_back();      // second phases of what is last
    const auto later = [&](Together& first, std::vector<Task> tasks) {
        first.add(tasks.at(0));
        for (std::size_t t = 1; t < tasks.size(); ++t) at_end.add(tasks[t]);
    };
    for (const Region& region : found.regions) {
        const std::size_t number = tasks_.size();
        if (region.by_rows) {
            ByRows& blocks = by_rows_.emplace_back();
            std::vector<Work> works(region.end - region.begin);
            for (Index begin = 0; begin < n; begin += found.block) {
                std::vector<Task>& list = blocks.blocks.emplace_back();
                for (std::size_t i = region.begin; i < region.end; ++i) {
                    if (ops_[i]->kind() == Kind::last) continue;
                    const Index rows = std::min(found.block, n - begin);
                    const std::vector<Task> own = prepared(i, begin, rows, works[i - region.begin]);
                    list.insert(list.end(), own.begin(), own.end());
                }
            }
            if (!blocks.blocks.front().empty()) tasks_.push_back(blocks.task());
            for (std::size_t i = region.begin; i < region.end; ++i) {
                const bool late = ops_[i]->kind() == Kind::last;
                if (late) later(before_end, prepared(i, 0, n, works[i - region.begin]));
                note(i, late ? kBeforeEnd : number, late ? 0 : std::ssize(blocks.blocks),
                     works[i - region.begin]);
            }
            continue;
        }
        const Kind kind = ops_[region.begin]->kind();
        Together* side_by_side =
            kind == Kind::first || kind == Kind::last ? &together_.emplace_back() : nullptr;
        for (std::size_t i = region.begin; i < region.end; ++i) {
            Work work;
            const std::vector<Task> own = prepared(i, 0, n, work);
            if (own.empty()) continue;
            note(i, number, 0, work);
            if (side_by_side != nullptr) {
                later(*side_by_side, own);
                continue;
            }
            for (const Task& phase : own)
                if (phase.chunks > 0) tasks_.push_back(phase);
        }
        if (side_by_side != nullptr && !side_by_side->empty()) tasks_.push_back(side_by_side->task());
    }
    for (Line& line : lines_)
        if (line.region == kBeforeEnd) line.region = tasks_.size();
    if (!before_end.empty()) tasks_.push_back(before_end.task());
    if (!at_end.empty()) tasks_.push_back(at_end.task());
}

std::vector<double> Program::time_regions(int repeats) {
    std::vector<double> seconds;
    const auto time = [&](const std::vector<Task>& tasks, std::size_t begin, std::size_t count,
                          double cost_ns) {
        const std::vector<Task> own(tasks.begin() + static_cast<std::ptrdiff_t>(begin),
                                    tasks.begin() + static_cast<std::ptrdiff_t>(begin + count));
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; ++i) run(own, cost_ns, nullptr);
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                          repeats);
    };
    for (std::size_t i = 0; i < tasks_.size(); ++i) time(tasks_, i, 1, cost_ns_);
    time(update_->tasks(), 0, update_->tasks().size(), update_->cost_ns());
    return seconds;
}

bool Program::run(const std::vector<Task>& tasks, double cost_ns, Poll poll) {
    // Each barrier costs a second thread about this much of what it saves: a network 64-32-10 with batch-norm
    // took 19 us a step on two threads, 14 on one.
    constexpr double kBarrierNs = 1500;
    cost_ns -= kBarrierNs * static_cast<double>(tasks.size());
    const int count = static_cast<int>(tasks.size());
    for (int begin = 0; begin < count; begin += kMaxTasks) {
        if (!run_tasks(tasks.data() + begin, std::min(kMaxTasks, count - begin), cost_ns, poll)) return false;
    }
    return true;
}

// Runs a step, or a forward, and keeps the pace of short ones.
template <class Step>
auto Program::at_pace(Step step) {
    const int threads = num_threads();
    pace_ = cost_ns_ > kLongNs || threads == 1 ? nullptr : &paces_[{n_, threads}];
    if (pace_ == nullptr) return step();
    if (!pace_->timed()) {
        const auto outcome = step();
        pace_->took(0);
        return outcome;
    }
    const auto start = std::chrono::steady_clock::now();
    const auto outcome = step();
    pace_->took(std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count());
    return outcome;
}

Outcome Program::step(const Batch& batch, std::int64_t number, const GroupNumbers* numbers, Poll poll) {
    x_->source = batch.x;
    if (values_ != nullptr) values_->source = batch.values;
    if (!loss_->take(batch.targets, batch.rows)) return Outcome::bad_batch;
    return at_pace([&] {
        for (const auto& op : ops_) op->before_run();
        update_->set(number, numbers);
        if (cost_ns_ <= kLongNs) {
            all_ = tasks_;
            all_.insert(all_.end(), update_->tasks().begin(), update_->tasks().end());
            run(all_, paced(cost_ns()), nullptr);
        } else if (run(tasks_, paced(cost_ns_), poll)) {
            // To the end: a half-applied update is never seen.
            run(update_->tasks(), paced(update_->cost_ns()), nullptr);
        } else {
            for (const auto& op : ops_) op->cancelled();
            return Outcome::cancelled;
        }
        for (const auto& op : ops_) op->after_run();
        return update_->plan.refused() >= 0 ? Outcome::refused : Outcome::done;
    });
}

bool Program::forward(const RowSource& x, Index n, float* out, Poll poll) {
    const Kernels& kernels = fastnn::kernels();
    const bool direct = x.number == Number::float32 && x.row == buffers_.front().per_row && pred_ != kInput;
    const bool ready = n == n_ && direct == direct_ && &kernels == kernels_;
    const auto lies_at = [&](Ref buffer, float* place) {
        float*& now = memory_[static_cast<std::size_t>(buffer)];
        if (ready && place != now) {
            const auto bytes = reinterpret_cast<std::intptr_t>(place) - reinterpret_cast<std::intptr_t>(now);
            for (const auto& op : ops_) op->move(buffer, bytes / Index{sizeof(float)});
        }
        now = place;
    };
    if (!ready) n_ = 0;
    memory_.resize(buffers_.size());
    if (direct) lies_at(kInput, static_cast<float*>(const_cast<void*>(x.data)));
    lies_at(pred_, out);
    if (!ready) {
        direct_ = direct;
        const Plan found = plan(n);
        reserve(found.floats);
        kernels_ = &kernels;
        build(found, n, false);
        n_ = n;
    }
    x_->source = x;
    return at_pace([&] {
        for (const auto& op : ops_) op->before_run();
        return run(tasks_, paced(cost_ns_), poll);
    });
}

}  // namespace fastnn::program

#include "program/device_program.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <numeric>
#include <string>
#include <utility>

#include "core/dispatch.h"

namespace fastnn::program {
namespace {

constexpr Index kAlignBytes = 256;

Index rounded(Index bytes) { return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes; }

template <class T>
Index bytes_of(Index count) {
    return rounded(count * static_cast<Index>(sizeof(T)));
}

// Says every 50 ms that Python may have a signal.
class Patience {
 public:
    bool over() {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(50)) return false;
        last_ = now;
        return true;
    }

 private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Pieces of one allocation, one after another.
class Pieces {
 public:
    explicit Pieces(void* memory) : next_(static_cast<unsigned char*>(memory)) {}
    template <class T>
    T* take(Index count) {
        auto* piece = reinterpret_cast<T*>(next_);
        next_ += bytes_of<T>(count);
        return piece;
    }

 private:
    unsigned char* next_;
};

}  // namespace

bool DeviceProgram::Memory::grow(Index wanted) {
    if (wanted <= bytes) return false;
    cuda.release(data);
    data = nullptr;
    bytes = 0;
    if (cuda.allocate(&data, wanted) != 0) throw std::bad_alloc();
    bytes = wanted;
    return true;
}

void DeviceProgram::check(int status) const {
    if (status != 0) throw DeviceError(std::string("CUDA says: ") + cuda_.message(status));
}

DeviceProgram::DeviceProgram(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops,
                             std::vector<std::size_t> places, std::size_t loss,
                             std::shared_ptr<Update> update, const CudaKernels& cuda, bool tf32)
    : Program(std::move(buffers), std::move(ops), false, loss, std::move(update)),
      cuda_(cuda),
      tf32_(tf32),
      places_(std::move(places)),
      fixed_(cuda),
      arena_(cuda),
      records_(cuda),
      staged_{Memory(cuda), Memory(cuda), Memory(cuda), Memory(cuda)} {
    branches_ = true;
    make_fixed();
}

DeviceProgram::~DeviceProgram() { forget_graphs(); }

void DeviceProgram::forget_graphs() {
    for (const Graph& graph : graphs_) cuda_.forget(graph.graph);
    graphs_.clear();
}

// What does not depend on the batch.
void DeviceProgram::make_fixed() {
    UpdatePlan& plan = update_->plan;
    const auto sums = plan.args.sums != nullptr ? plan.args.chunks : 0;
    const Index units = plan.scale_count();
    layout_.emplace(prepared(least_rows_, false, false));
    const Index record = layout_->record_bytes();
    fixed_.grow(bytes_of<CudaRun>(1) + bytes_of<double>(kQueue) + bytes_of<double>(loss_->score_count()) +
                bytes_of<UpdateVerdict>(1) + rounded(record) + bytes_of<UpdateTensor>(plan.args.count) +
                bytes_of<double>(sums) + bytes_of<float>(units));
    Pieces pieces(fixed_.data);
    run_ = pieces.take<CudaRun>(1);
    losses_ = pieces.take<double>(kQueue);
    scores_ = pieces.take<double>(loss_->score_count());
    verdict_ = pieces.take<UpdateVerdict>(1);
    current_ = pieces.take<unsigned char>(record);
    auto* tensors = pieces.take<UpdateTensor>(plan.args.count);
    const Index bytes = plan.args.count * Index{sizeof(UpdateTensor)};
    check(cuda_.to_device(tensors, plan.tensors.data(), bytes, bytes, 1, nullptr));
    check(cuda_.wait(nullptr));
    update_args_ = plan.args;
    update_args_.tensors = tensors;
    update_args_.sums = sums > 0 ? pieces.take<double>(sums) : nullptr;
    update_args_.scales = units > 0 ? pieces.take<float>(units) : nullptr;
    update_args_.verdict = verdict_;
}

Index DeviceProgram::counts(Index n) const {
    Index total = 0;
    for (const auto& op : ops_) total += op->counts(n);
    return total;
}

Index DeviceProgram::arena_bytes(Index n) const {
    static_assert(sizeof(float) == sizeof(unsigned));
    return (plan(n).floats + n + counts(n)) * Index{sizeof(float)};
}

// The operations between the two ends of a step. A batch's weights stand behind the arena's floats, and
// behind these what products count.
Recording DeviceProgram::prepared(Index n, bool weighted, bool scored) {
    const Plan found = plan(n);
    Recording recording(cuda_, run_, current_);
    auto* floats = static_cast<float*>(arena_.data);
    memory_.assign(buffers_.size(), nullptr);
    for (std::size_t i = 0; i < buffers_.size(); ++i) memory_[i] = floats + found.offsets[i];
    StepBeginArgs begin{};
    begin.run = run_;
    begin.verdict = verdict_;
    begin.current = current_;
    begin.targets = recording.live(&targets_, 1);
    begin.rows = n;
    begin.weight = weighted ? floats + found.floats : nullptr;
    begin.may_be_empty = update_->plan.args.count == 0;
    begin.counts = reinterpret_cast<unsigned*>(floats + found.floats + n);
    begin.count_total = counts(n);
    unsigned* free_counts = begin.counts;
    const UpdateOptions* options = recording.live(update_->plan.options.data(), update_->plan.options.size());
    lines_.clear();
    for (const auto& op : ops_) op->forget();
    // What needs no other operation runs beside the gather of the batch, what nobody reads beside the rest.
    const auto is_early = [&](std::size_t i) {
        return ops_[i]->kind() == Kind::first || ops_[i].get() == values_;
    };
    std::vector<std::size_t> order(ops_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_partition(order.begin(), order.end(), is_early);
    Turn turn = Turn::next;
    for (const std::size_t i : order) {
        const bool beside = is_early(i) || ops_[i]->kind() == Kind::last;
        recording.next(beside ? Turn::beside : turn);
        if (!beside) turn = ops_[i].get() == x_ ? Turn::joined : Turn::next;
        Place place{.begin = 0,
                    .rows = n,
                    .total = n,
                    .kernels = kernels(),
                    .buffers = buffers_,
                    .memory = memory_,
                    .scratch = floats + found.scratch[i],
                    .weighted = weighted,
                    .device = &recording,
                    .tf32 = tf32_,
                    .counts = free_counts};
        ops_[i]->prepare(place);
        free_counts += ops_[i]->counts(n);
        // Behind the first part, which is added last.
        lines_.push_back({places_[i], recording.turns().size(), 0, place.work});
    }
    StepEndArgs end{};  // behind the operations: the loss now knows where its arrays are
    end.run = run_;
    end.verdict = verdict_;
    end.pred = memory_[static_cast<std::size_t>(loss_->pred)];
    end.weight = begin.weight;
    end.rows = n;
    end.cols = loss_->cols;
    end.scores = scores_;
    loss_->describe(begin, end);
    if (!scored) end.score = Score::none;
    begin.record_bytes = recording.record_bytes();
    recording.add_first(begin);
    UpdateArgs update = update_args_;
    update.options = options;
    recording.next(Turn::joined);
    recording.add(UpdateNormArgs{update});
    recording.next(Turn::beside);  // what the update reads stays
    recording.add(end);
    recording.next(Turn::next);
    recording.add(update);
    return recording;
}

const DeviceProgram::Graph& DeviceProgram::graph_of(Index n, bool weighted, bool scored) {
    const auto found = std::find_if(graphs_.begin(), graphs_.end(), [&](const Graph& g) {
        return g.rows == n && g.weighted == weighted && g.scored == scored;
    });
    if (found != graphs_.end()) {
        graphs_.splice(graphs_.begin(), graphs_, found);
        return graphs_.front();
    }
    if (graphs_.size() == kGraphs) {
        cuda_.forget(graphs_.back().graph);
        graphs_.pop_back();
    }
    Recording recording = prepared(n, weighted, scored);
    const auto launch = [](void* what, Index part, void* stream) {
        return static_cast<const Recording*>(what)->launch(part, stream);
    };
    Graph graph{n, weighted, scored, nullptr, memory_[static_cast<std::size_t>(loss_->pred)]};
    check(cuda_.record(recording.turns().data(), std::ssize(recording.turns()), launch, &recording,
                       &graph.graph));
    ++made_;
    graphs_.push_front(graph);
    return graphs_.front();
}

void* DeviceProgram::to_device(int place, const void* from, Index row_bytes, Index row_stride, Index rows,
                               bool queued, void* stream) {
    Memory& memory = staged_[place];
    const Index bytes = std::max(rounded(rows * row_bytes), kAlignBytes);
    Index& slot = slot_bytes_[place];
    if (queued_ == 0) {
        memory.grow(queued ? bytes * std::clamp(kQueueBytes / bytes, Index{4}, kQueue) : bytes);
        slot = bytes;
    }
    if (bytes > slot || (queued_ + 1) * slot > memory.bytes) return nullptr;
    auto* const to = static_cast<unsigned char*>(memory.data) + queued_ * slot;
    check(cuda_.to_device(to, from, row_bytes, row_stride, rows, stream));
    return to;
}

void DeviceProgram::begin() {
    steps_.clear();
    batches_.clear();
}

void DeviceProgram::add(const Batch& batch, std::int64_t number, const GroupNumbers* numbers) {
    x_->source = batch.x;
    if (values_ != nullptr) values_->source = batch.values;
    targets_ = batch.targets;
    update_->set(number, numbers);
    layout_->append_record(steps_);
    batches_.push_back({batch.rows, batch.targets.weight != nullptr});
}

CudaRun DeviceProgram::run(bool keep_refused, double* sums, double* scores, Poll poll, void* stream) {
    CudaRun state{};
    state.keep_refused = keep_refused;
    state.refused = -1;
    if (batches_.empty()) return state;
    Index most = 0;
    for (const Step& step : batches_) most = std::max(most, step.rows);
    reserve_arena(most, stream);
    const auto bytes = static_cast<Index>(steps_.size());
    records_.grow(bytes);
    check(cuda_.to_device(records_.data, steps_.data(), bytes, bytes, 1, stream));
    state.records = static_cast<const unsigned char*>(records_.data);
    std::copy(sums, sums + 2, state.sums);
    start(state, stream);
    const Index scores_bytes = loss_->score_count() * Index{sizeof(double)};
    if (scores != nullptr) check(cuda_.to_device(scores_, scores, scores_bytes, scores_bytes, 1, stream));
    Patience patience;
    for (const Step& step : batches_) {
        replay(graph_of(step.rows, step.weighted, scores != nullptr), step.rows, stream);
        if (patience.over() && poll()) break;
    }
    if (scores != nullptr) check(cuda_.to_host(scores, scores_, scores_bytes, stream));
    state = ended(stream);
    std::copy(state.sums, state.sums + 2, sums);
    return state;
}

void DeviceProgram::reserve_arena(Index rows, void* stream) {
    if (arena_.bytes >= arena_bytes(rows)) return;
    check(cuda_.wait(stream));  // for queued steps
    forget_graphs();            // they hold the arena's address
    arena_.grow(arena_bytes(rows));
}

void DeviceProgram::replay(const Graph& graph, Index rows, void* stream) {
    check(cuda_.replay(graph.graph, stream));
    prediction_ = graph.prediction;
    last_rows_ = rows;
}

void DeviceProgram::start(CudaRun state, void* stream) {
    check(cuda_.to_device(run_, &state, sizeof(state), sizeof(state), 1, stream));
}

// Waits for all steps.
CudaRun DeviceProgram::ended(void* stream) {
    CudaRun state;
    check(cuda_.to_host(&state, run_, sizeof(state), stream));
    check(cuda_.wait(stream));
    if (state.outcome == 2 && state.next < static_cast<Index>(batches_.size())) refuse_again(state, stream);
    return state;
}

void DeviceProgram::queue(const Batch& batch, std::int64_t number, const GroupNumbers* numbers,
                          void* stream) {
    const Index record = layout_->record_bytes();
    reserve_arena(batch.rows, stream);
    if (queued_ == 0) {
        begin();
        records_.grow(kQueue * record);
        CudaRun state{};
        state.refused = -1;
        state.records = static_cast<const unsigned char*>(records_.data);
        state.values = losses_;
        start(state, stream);
    }
    const Index at = queued_ * record;
    batches_.resize(static_cast<std::size_t>(queued_));  // without one that failed on its way
    steps_.resize(static_cast<std::size_t>(at));
    add(batch, number, numbers);
    check(cuda_.to_device(static_cast<unsigned char*>(records_.data) + at, steps_.data() + at, record, record,
                          1, stream));
    replay(graph_of(batch.rows, batches_.back().weighted, false), batch.rows, stream);
    ++queued_;
}

CudaRun DeviceProgram::settle(double* values, void* stream) {
    check(cuda_.to_host(values, losses_, queued_ * Index{sizeof(double)}, stream));
    const CudaRun state = ended(stream);
    queued_ = 0;
    return state;
}

// The steps behind the refused one have written gradients of their own: those that were refused are formed
// anew, for whoever looks for the number that is not finite.
void DeviceProgram::refuse_again(const CudaRun& refused, void* stream) {
    CudaRun state{};
    state.records = refused.records;
    state.next = refused.next - 1;
    state.frozen = true;
    const Step& step = batches_[static_cast<std::size_t>(state.next)];
    start(state, stream);
    check(cuda_.replay(graph_of(step.rows, step.weighted, false).graph, stream));
    check(cuda_.wait(stream));
}

std::vector<double> DeviceProgram::time_parts(void* stream) {
    const Recording recording = prepared(last_rows_, batches_.front().weighted, false);
    const std::vector<Turn> turns(batches_.size(), Turn::next);
    const auto waited = [&](void* graph) {
        CudaRun state{};  // for the first part, which goes from record to record
        state.records = static_cast<const unsigned char*>(records_.data);
        start(state, stream);
        check(cuda_.wait(stream));
        const auto begin = std::chrono::steady_clock::now();
        check(cuda_.replay(graph, stream));
        check(cuda_.wait(stream));
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    struct Repeated {
        const Recording& recording;
        Index part;
    } repeated{recording, 0};
    const auto launch = [](void* what, Index, void* on) {
        const auto& [all, part] = *static_cast<Repeated*>(what);
        return all.launch(part, on);
    };
    std::vector<double> seconds;
    for (; repeated.part < std::ssize(recording.turns()); ++repeated.part) {
        void* made = nullptr;
        const int status = cuda_.record(turns.data(), std::ssize(turns), launch, &repeated, &made);
        const std::unique_ptr<void, int (*)(void*)> graph(made, cuda_.forget);
        check(status);
        waited(made);
        seconds.push_back(waited(made) / static_cast<double>(turns.size()));
    }
    return seconds;
}

void DeviceProgram::predictions(float* to, void* stream) {
    check(cuda_.to_host(to, prediction_, last_rows_ * loss_->cols * Index{sizeof(float)}, stream));
    check(cuda_.wait(stream));
}

}  // namespace fastnn::program

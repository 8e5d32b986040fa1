// The same program on a device: the operations become launches, recorded as a graph for each batch size, over
// one arena in the device's memory. What the host sets before a step (where its rows lie, the coefficients of
// the update, the steps of the masks) is a record; those of all steps of a run are copied in one go, and the
// graph's first kernel takes the next. So a run of steps never waits for the host, and another array or
// another rate needs no other graph. docs/cuda.md says more.
#pragma once

#include <list>
#include <optional>

#include "program/program.h"

namespace fastnn::program {

class DeviceProgram final : public Program {
 public:
    static constexpr std::size_t kGraphs = 4;       // kept
    static constexpr Index kQueue = 256;            // steps
    static constexpr Index kQueueBytes = 32 << 20;  // for their rows, but room for four steps

    // places: that of each operation, with those that it took in behind it, among all (fuse.h).
    DeviceProgram(std::vector<Buffer> buffers, std::vector<std::unique_ptr<Op>> ops,
                  std::vector<std::size_t> places, std::size_t loss, std::shared_ptr<Update> update,
                  const CudaKernels& cuda, bool tf32);
    ~DeviceProgram() override;

    Index arena_bytes(Index n) const override;
    // Rows on the host, brought to the device in their order; valid until the next call for the same `place`,
    // or (queued) until `settle`. Null: there is no room for them before that.
    static constexpr int kPlaces = 4;
    void* to_device(int place, const void* from, Index row_bytes, Index row_stride, Index rows, bool queued,
                    void* stream);

    // A run: its steps, then `run`, which returns when they are done.
    void begin();
    void add(const Batch& batch, std::int64_t number, const GroupNumbers* numbers);
    // sums and scores (null: none are asked for) are what they were, and become what they are.
    CudaRun run(bool keep_refused, double* sums, double* scores, Poll poll, void* stream);
    // Steps one by one, all on one stream: `queue` does not wait, unless memory must grow. When `is_full`,
    // and before a run, `settle` waits for them. It says how many were done and, where one was not, why;
    // values: the loss of each.
    bool is_full() const { return queued_ == kQueue; }
    void queue(const Batch& batch, std::int64_t number, const GroupNumbers* numbers, void* stream);
    CudaRun settle(double* values, void* stream);
    // The predictions of the last step.
    void predictions(float* to, void* stream);

    Index graphs_made() const { return made_; }
    // The seconds that each part of a step's graph takes when it is run again and again by itself, as many
    // times as the last run had steps, all of one size (it leaves what `time_regions` does). The region of a
    // line is its part.
    std::vector<double> time_parts(void* stream);

 private:
    struct Memory {
        const CudaKernels& cuda;
        void* data = nullptr;
        Index bytes = 0;

        explicit Memory(const CudaKernels& table) : cuda(table) {}
        ~Memory() { cuda.release(data); }
        Memory(const Memory&) = delete;
        Memory& operator=(const Memory&) = delete;
        bool grow(Index wanted);  // whether it moved
    };
    struct Graph {
        Index rows;
        bool weighted, scored;
        void* graph;
        const float* prediction;
    };
    struct Step {
        Index rows;
        bool weighted;
    };

    void check(int status) const;
    Index counts(Index n) const;  // of all operations
    void make_fixed();
    Recording prepared(Index n, bool weighted, bool scored);
    const Graph& graph_of(Index n, bool weighted, bool scored);
    void forget_graphs();
    void reserve_arena(Index rows, void* stream);
    void replay(const Graph& graph, Index rows, void* stream);
    void start(CudaRun state, void* stream);
    CudaRun ended(void* stream);
    void refuse_again(const CudaRun& refused, void* stream);

    const CudaKernels& cuda_;
    const bool tf32_;  // products of float32 round to it
    const std::vector<std::size_t> places_;
    Targets targets_{};
    std::optional<Recording> layout_;  // of a step's record
    Memory fixed_, arena_, records_, staged_[kPlaces];
    Index queued_ = 0;                // steps that `settle` has not waited for
    Index slot_bytes_[kPlaces] = {};  // of a queued step in staged_
    // In fixed_:
    CudaRun* run_ = nullptr;
    double* losses_ = nullptr;  // kQueue, of queued steps
    double* scores_ = nullptr;
    UpdateVerdict* verdict_ = nullptr;
    unsigned char* current_ = nullptr;
    UpdateArgs update_args_{};

    std::list<Graph> graphs_;  // the one that was used last comes first
    Index made_ = 0;
    std::vector<unsigned char> steps_;  // records
    std::vector<Step> batches_;
    const float* prediction_ = nullptr;
    Index last_rows_ = 0;
};

}  // namespace fastnn::program

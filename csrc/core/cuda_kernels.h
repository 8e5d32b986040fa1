// What the optional extension `_cuda` hands to the rest: its kernels, the memory and graphs they run in, and
// what it knows of the device. No CUDA type stands here, so that everybody may include it: a stream is a
// cudaStream_t as void*, a status a cudaError_t as int, 0 where all is well.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

#include "core/types.h"

namespace fastnn {

// ---- a training step on the device (csrc/program/device_program.h)

// y = x in double, over n elements.
struct WidenArgs {
    const float* x;
    double* y;
    Index n;
};
static_assert(are_indices(&WidenArgs::n));

// Where a run of steps stands. The host writes it before a run and reads it afterwards; in between only the
// kernels do, so that no step waits for the host.
struct CudaRun {
    const unsigned char* records;  // of the steps, one after another: what the host sets before each
    Index next;                    // the step that comes next
    Index done;                    // steps
    Index refused;                 // the array whose gradient is not finite
    int outcome;                   // 0, 1: a bad label or weight, 2: refused
    bool halted;                   // an outcome that is not 0: the steps still to come change nothing
    bool frozen;                   // the running statistics stay; halted or not
    bool keep_refused;             // a refused step counts as done
    double value, total;           // loss and weight of the last step
    double sums[2];                // of weight and weight * loss, over all steps
    double* values;                // null, or where the loss of each step is kept
};
static_assert(are_indices(&CudaRun::next, &CudaRun::done, &CudaRun::refused));

// Begins a step: its record becomes the current one, class ids and weights are checked and taken.
struct StepBeginArgs {
    CudaRun* run;
    UpdateVerdict* verdict;
    unsigned char* current;  // the record that the step's kernels read
    Index record_bytes;      // a multiple of 8
    const Targets* targets;  // in `current`
    Index rows;
    std::int64_t* labels;  // the batch's, null where targets are values
    Index classes;
    bool ignores;
    std::int64_t ignored;
    float* weight;  // the batch's as they were given, null without
    float* scaled;  // by row: weight (or 1) * factor / (divisor * the sum of the weights); null: nobody asks
    double factor, divisor;
    bool may_be_empty;  // rows of which none counts are right, and add nothing: where nothing is trained
    unsigned* counts;   // of the step's products (Statistics), which become 0
    Index count_total;
};
static_assert(are_indices(&StepBeginArgs::record_bytes, &StepBeginArgs::rows, &StepBeginArgs::classes,
                          &StepBeginArgs::count_total));

// What the metrics of a loss are made of (core/scores.h).
enum class Score : int { none, hits, sides, squares };

// Ends a step: its loss joins the run's sums, its metrics the scores, and gradients that are not finite halt.
struct StepEndArgs {
    CudaRun* run;
    const UpdateVerdict* verdict;
    const double* terms;  // of the loss
    Index term_count;
    const float* term_weight;  // null: 1
    bool mean_of_terms;        // the loss is their sum / total, else * scale
    double scale;
    Score score;
    double* scores;
    const float *pred, *target;
    const std::int64_t* labels;
    const float* weight;  // by row, null: 1
    Index rows, cols;
};
static_assert(are_indices(&StepEndArgs::term_count, &StepEndArgs::rows, &StepEndArgs::cols));

// What an update must know of all gradients first: the sums, scales and verdict that its arguments name.
struct UpdateNormArgs {
    UpdateArgs update;
};

// How a part of a graph stands to those recorded before it: each is next on one chain, or beside what follows
// there, up to the next part that is joined; that one waits for them all.
enum class Turn : int { next, beside, joined };

// ---- products

// What a product does beside: its result is multiplied by f'(from), the gradient behind the activation in
// front of a layer, column sums (the gradient of a bias) are formed by blocks of their own, and those of the
// batch-norm behind it, forward or backward, by the blocks that are the last to write its columns.
struct Slope {
    const float* from;  // contiguous, for each element of the result; null: no slope
    bool from_x;        // it is f's argument, else its result
    Activation kind;
    float alpha;
};
struct Statistics {
    BatchNormArgs norm;  // of which the product is x: mean, rstd, running statistics; x null: none
    BatchNormBackwardArgs backward;  // of which it is dy: sums, dgamma, dbeta; dy null: none
    unsigned* arrived;               // statistic_counts of them, 0 before and afterwards
};
// One for each 192 rows of a strip of columns, and one for these; strips are no narrower than 16.
inline Index statistic_counts(Index rows, Index cols) {
    return (cols + 15) / 16 * ((rows + kStatRows - 1) / kStatRows + 1);
}
template <class Product>
struct With {
    Product product;
    Slope slope;
    ColumnSumArgs sums;  // out null: none
    Statistics statistics;
};

// ---- the table

template <class Args>
using CudaEntry = int (*)(const Args&, void* stream);
template <class... Args>
using CudaEntries = std::tuple<CudaEntry<Args>...>;

struct CudaKernels {
    const char* build_id;  // of the sources: `_core` and `_cuda` of two builds do not fit

    // The operations, each known by its arguments; csrc/cuda/entries.h says more.
    CudaEntries<ActivationArgs, ActivationBackwardArgs, DropoutArgs, ColumnSumArgs, BatchNormArgs,
                BatchNormBackwardArgs, SoftmaxArgs, PointLossArgs, GemmArgs, GemmBf16Args, GemmTf32Args,
                With<GemmArgs>, With<GemmBf16Args>, With<GemmTf32Args>, RoundArgs, UpdateNormArgs, UpdateArgs,
                GatherArgs, AddArgs, ScaleColumnsArgs, WidenArgs, StepBeginArgs, StepEndArgs>
        entries;
    template <class Args>
    CudaEntry<Args> entry() const {
        return std::get<CudaEntry<Args>>(entries);
    }
    template <class Args>
    static constexpr bool has() {
        return contains<Args>(static_cast<decltype(entries)*>(nullptr));
    }
    template <class Args, class... Known>
    static constexpr bool contains(std::tuple<Known...>*) {
        return (std::is_same_v<CudaEntry<Args>, Known> || ...);
    }

    int (*allocate)(void** memory, Index bytes);
    int (*release)(void* memory);
    // The same in the order of the stream, without waiting.
    int (*borrow)(void** memory, Index bytes, void* stream);
    int (*give_back)(void* memory, void* stream);
    // Copies are ordered on the stream; `rows` of row_bytes each lie row_stride bytes apart on the host.
    int (*to_device)(void* to, const void* from, Index row_bytes, Index row_stride, Index rows, void* stream);
    int (*to_host)(void* to, const void* from, Index bytes, void* stream);
    int (*wait)(void* stream);
    // A graph of parts, which `launch` launches on the stream it is given.
    int (*record)(const Turn* turns, Index parts, int (*launch)(void* what, Index part, void* stream),
                  void* what, void** graph);
    int (*replay)(void* graph, void* stream);
    int (*forget)(void* graph);
    const char* (*message)(int status);
};

// What CUDA said.
class DeviceError : public std::runtime_error {
 public:
    using std::runtime_error::runtime_error;
};

// The name of the capsule that holds the table.
inline constexpr char kCudaCapsule[] = "fastnn._cuda.kernels";

struct CudaDevice {
    std::string name;
    int index;
    int capability;  // 90 for 9.0
    int multiprocessors;
    std::uint64_t memory_bytes;
    int driver, runtime;  // versions, 13000 for 13.0
};

struct CudaTransfers {
    std::uint64_t to_host, to_device;  // bytes
};

// Defined in csrc/cuda.
const CudaKernels& cuda_kernels();
std::string cuda_why_not();  // why no kernel can run, in words; empty where they can
CudaDevice cuda_device();    // the current one, where they can
// Who forms large products of bfloat16 and TF32: cuBLASLt and its version, or fastnn and why.
std::string cuda_product_library();
CudaTransfers cuda_transfers();

}  // namespace fastnn

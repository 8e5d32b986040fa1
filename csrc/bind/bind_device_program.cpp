// Runs of steps on the device.
#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bind/arrays.h"
#include "bind/batches.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

constexpr const char* kRunOnDeviceDoc =
    R"(run_steps_on_device(program, x, target, *, sample_weight=None, order=None, bounds, first=0, last, numbers, number, forwards, sums, result, scores=None, pred=None, keep_refused=False, stream)
--

`run_steps` for a program on the device, which ends early where `stop_steps` asks it to. x, target and sample_weight lie there (`__cuda_array_interface__`), or on the
host, from where they are copied whole; the rest lies on the host. Without ``order`` batch i is the rows from
``bounds[i]`` to ``bounds[i + 1]`` - 1. The steps are done when it returns; it waits once.
``stream``: a cudaStream_t as a number.
)";

constexpr const char* kQueueDoc =
    R"(queue_step_on_device(program, x, target, *, sample_weight=None, numbers, number, forwards, stream)
--

One step on all rows of x, queued on the stream behind those before it, without waiting. Arrays of the host are copied
before it returns. False, with nothing done: `settle_on_device` must come first.
)";

constexpr const char* kSettleDoc = R"(settle_on_device(program, values, result, *, stream)
--

Waits for the steps that were queued on this stream. ``values`` (256,), float64: the loss of each that was done;
``result`` as of `run_steps`.
)";

// The result of a run for Python.
void say(const CudaRun& run, double* result) {
    result[0] = static_cast<double>(run.done);
    result[1] = static_cast<double>(run.outcome);
    result[2] = static_cast<double>(run.refused);
    result[3] = run.value;
}

// Which memory of a program holds what came from the host.
enum Staged { kStagedX, kStagedTarget, kStagedWeight, kStagedOrder };

// (rows, ...) on the device, each row contiguous; from the host if need be, where a queued step finds null if
// there is no room.
DataRows rows_on_device(Call& call, const Value& value, program::DeviceProgram& program, Staged place,
                        void* stream, bool queued = false) {
    if (!is_device_array(value.object)) {
        DataRows rows = read_any_rows(call, value);
        const Index size = kNumberBytes[static_cast<int>(rows.number)];
        rows.data =
            program.to_device(place, rows.data, rows.cols * size, rows.row * size, rows.rows, queued, stream);
        rows.row = rows.cols;
        return rows;
    }
    const DeviceArray array = device_array(value.object);
    if (array.shape.empty()) call.value_error(value, "must have rows");
    DataRows rows{.data = array.data, .number = array.number, .rows = array.shape[0], .cols = 1};
    bool contiguous = true;
    for (std::size_t i = array.shape.size(); i-- > 1;) {
        if (!array.strides.empty())
            contiguous = contiguous && (array.shape[i] == 1 || array.strides[i] == rows.cols);
        rows.cols *= array.shape[i];
    }
    if (!contiguous) call.value_error(value, "must have contiguous rows");
    rows.row = array.strides.empty() || rows.rows < 2 ? rows.cols : array.strides[0];
    return rows;
}

// What a step reads, without an order of its rows; null: see above.
struct Taken {
    DataRows x, target, weight;
    bool weighted = false;

    // The same from this row on.
    Taken behind(Index first) const {
        Taken rest = *this;
        for (DataRows* rows : {&rest.x, &rest.target, &rest.weight})
            rows->data = static_cast<const unsigned char*>(rows->data) +
                         first * rows->row * kNumberBytes[static_cast<int>(rows->number)];
        return rest;
    }
    bool complete() const {
        return x.data != nullptr && target.data != nullptr && (!weighted || weight.data != nullptr);
    }
};
Taken take(Call& call, program::DeviceProgram& program, const Value& x, const Value& target,
           const Value& weight, void* stream, bool queued) {
    Taken rows;
    rows.x = rows_on_device(call, x, program, kStagedX, stream, queued);
    rows.target = rows_on_device(call, target, program, kStagedTarget, stream, queued);
    rows.weighted = weight.given();
    if (rows.weighted) rows.weight = rows_on_device(call, weight, program, kStagedWeight, stream, queued);
    return rows;
}
program::Batch taken_batch(Call& call, BoundProgram& bound, const Value& x, const Value& target,
                           const Value& weight, const Taken& rows) {
    const program::Loss& loss = bound.program().loss();
    program::Batch batch = batch_of(call, bound, x, rows.x, target, rows.target);
    if (loss.target == program::kNone &&
        (rows.target.number == Number::float32 || rows.target.number == Number::float64))
        call.type_error(target, "must hold class ids");
    if (rows.weighted) {
        const DataRows& w = rows.weight;
        if (w.number != Number::float32 || w.rows != rows.x.rows || w.cols != 1 || w.row != 1)
            call.value_error(weight, "must be contiguous float32, one for each row");
        batch.targets.weight = static_cast<const float*>(w.data);
    }
    return batch;
}

PyObject* run_steps_on_device(Call& call) {
    enum {
        kProgram,
        kX,
        kTarget,
        kSampleWeight,
        kOrder,
        kBounds,
        kFirst,
        kLast,
        kNumbers,
        kNumber,
        kForwards,
        kSums,
        kResult,
        kScores,
        kPred,
        kKeepRefused,
        kStream
    };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    program::DeviceProgram& program = bound.on_device();
    program::Loss& loss = program.loss();
    const InUse in_use(bound);
    auto* const stream = reinterpret_cast<void*>(integer(call, call[kStream], 0));

    const DataRows bounds = read_any_rows(call, call[kBounds]);
    const auto* bound_of = static_cast<const std::int64_t*>(bounds.data);
    const std::int64_t first = integer(call, call[kFirst], 0);
    const std::int64_t last = integer(call, call[kLast], 0);
    if (bounds.number != Number::int64 || bounds.row != 1) call.type_error(call[kBounds], "must be int64");
    if (last >= bounds.rows || first > last) call.value_error(call[kLast], "must be a batch of bounds");

    const Taken taken = take(call, program, call[kX], call[kTarget], call[kSampleWeight], stream, false);
    const DataRows& x = taken.x;
    program::Batch batch = taken_batch(call, bound, call[kX], call[kTarget], call[kSampleWeight], taken);
    const std::int64_t* order = nullptr;
    Index available = x.rows;
    if (call[kOrder].given()) {
        const DataRows given = read_any_rows(call, call[kOrder]);
        if (given.number != Number::int64 || given.row != 1) call.type_error(call[kOrder], "must be int64");
        const auto* rows = static_cast<const std::int64_t*>(given.data);
        if (std::any_of(rows, rows + given.rows, [&](Index row) { return row < 0 || row >= x.rows; }))
            call.value_error(call[kOrder], "must hold numbers of rows of x");
        available = given.rows;
        order = static_cast<const std::int64_t*>(
            program.to_device(kStagedOrder, rows, given.rows * 8, given.rows * 8, 1, false, stream));
    }
    for (Index i = first; i < last; ++i) {
        if (bound_of[i] < 0 || bound_of[i + 1] - bound_of[i] < program.least_rows() ||
            bound_of[i + 1] > available)
            call.value_error(call[kBounds], "must be rising numbers of rows");
    }
    const Numbers numbers = read_numbers(call, call[kNumbers], bound);
    const std::int64_t number = positive_integer(call, call[kNumber]);
    const auto forwards = py::handle(call[kForwards].object).cast<std::vector<std::uint64_t>>();
    double* result = const_cast<double*>(read_doubles(call, call[kResult], 4));
    double* sums = const_cast<double*>(read_doubles(call, call[kSums], 2));
    double* scores = call[kScores].given()
                         ? const_cast<double*>(read_doubles(call, call[kScores], loss.score_count()))
                         : nullptr;
    Shape pred_shape;
    Output pred;
    if (call[kPred].given()) pred = update_flat(call, call[kPred], pred_shape);
    const bool keep_refused = flag(call, call[kKeepRefused]);

    const Index steps = numbers.sets > 1 ? std::min(last - first, numbers.sets) : last - first;
    if (pred.data != nullptr && steps > 0 &&
        pred.cols != (bound_of[first + steps] - bound_of[first + steps - 1]) * loss.cols)
        call.value_error(call[kPred], "must hold the predictions of the last batch");
    program.begin();
    for (Index i = 0; i < steps; ++i) {
        const Index begin = bound_of[first + i];
        if (order == nullptr)
            batch =
                taken_batch(call, bound, call[kX], call[kTarget], call[kSampleWeight], taken.behind(begin));
        batch.rows = bound_of[first + i + 1] - begin;
        batch.x.order = batch.values.order =
            batch.targets.order = {order != nullptr ? order + begin : nullptr, nullptr, 0};
        bound.set_masks(forwards, static_cast<std::uint64_t>(i));
        program.add(batch, number + i, numbers.of(i));
    }
    // An evaluation is of all its rows, or raises.
    const Poll poll = bound.update() != nullptr ? signal_or_stop : signal_raised;
    const bool finished = without_gil(1e9, [&] {
        const CudaRun run = program.run(keep_refused, sums, scores, poll, stream);
        say(run, result);
        if (pred.data != nullptr) program.predictions(pred.data, stream);
        return run.outcome != 0 || run.done == steps;
    });
    if (!finished && PyErr_Occurred() != nullptr) throw py::error_already_set();
    Py_RETURN_NONE;
}

PyObject* queue_step_on_device(Call& call) {
    enum { kProgram, kX, kTarget, kSampleWeight, kNumbers, kNumber, kForwards, kStream };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    program::DeviceProgram& program = bound.on_device();
    const InUse in_use(bound);
    auto* const stream = reinterpret_cast<void*>(integer(call, call[kStream], 0));
    const Numbers numbers = read_numbers(call, call[kNumbers], bound);
    const std::int64_t number = positive_integer(call, call[kNumber]);
    const auto forwards = py::handle(call[kForwards].object).cast<std::vector<std::uint64_t>>();
    if (program.is_full()) Py_RETURN_FALSE;
    const Taken taken = take(call, program, call[kX], call[kTarget], call[kSampleWeight], stream, true);
    if (!taken.complete()) Py_RETURN_FALSE;
    program::Batch batch = taken_batch(call, bound, call[kX], call[kTarget], call[kSampleWeight], taken);
    batch.rows = taken.x.rows;
    if (batch.rows < program.least_rows()) call.value_error(call[kX], "must have more rows");
    bound.set_masks(forwards, 0);
    without_gil(1e9, [&] {
        program.queue(batch, number, numbers.of(0), stream);
        return true;
    });
    Py_RETURN_TRUE;
}

PyObject* settle_on_device(Call& call) {
    enum { kProgram, kValues, kResult, kStream };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    const InUse in_use(bound);
    auto* const stream = reinterpret_cast<void*>(integer(call, call[kStream], 0));
    double* values = const_cast<double*>(read_doubles(call, call[kValues], program::DeviceProgram::kQueue));
    double* result = const_cast<double*>(read_doubles(call, call[kResult], 4));
    without_gil(1e9, [&] {
        say(bound.on_device().settle(values, stream), result);
        return true;
    });
    Py_RETURN_NONE;
}

}  // namespace

void bind_device_program(py::module_& m) {
    add_function<run_steps_on_device>(m, kRunOnDeviceDoc);
    add_function<queue_step_on_device>(m, kQueueDoc);
    add_function<settle_on_device>(m, kSettleDoc);
}

}  // namespace fastnn::bind

#include <pybind11/stl.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "bind/arrays.h"
#include "bind/batches.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

using program::Outcome;

constexpr const char* kRunStepsDoc =
    R"(run_steps(program, x, target, *, sample_weight=None, order=None, bounds, first=0, last, seconds=None, numbers, number, forwards, sums, result, scores=None, pred=None, keep_refused=False)
--

Training steps for `fastnn._program`: batches ``first`` to ``last`` - 1, of which batch i is the rows
``order[bounds[i]:bounds[i + 1]]`` of x, target and sample_weight.

``numbers``: float64 (steps or 1, groups, 10), `GroupNumbers` of core/update_options.h; ``number``: of the first
update, counted from 1; ``forwards``: for each dropout layer, its training forwards before the first step.
``sums``: float64 (2,), to which (weight, weight * loss) of each step is added; ``scores``: as in fastnn._scores.
``pred``: (rows, outputs), for the predictions of the last step. It stops after ``seconds``, and before what it
cannot do, and writes to ``result``, float64 (4,): steps done, outcome, number of the parameter whose gradient was
refused, loss of the last step; outcomes: 0 done, 1 the next batch has a bad label or weight, 2 refused (the step
counts as done only with ``keep_refused``), 3 `stop_steps` asked in the middle of the next step. Once a parameter has
changed nothing fails any more.
)";

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// What `_program.Run` is made of.
void note(double* result, Index done, Outcome of, program::Program& program) {
    result[0] = static_cast<double>(done);
    result[1] = static_cast<double>(of);
    result[2] = static_cast<double>(of == Outcome::refused ? program.update().plan.refused() : -1);
    if (of == Outcome::done || of == Outcome::refused) result[3] = program.loss().value();
}

PyObject* run_steps(Call& call) {
    enum {
        kProgram,
        kX,
        kTarget,
        kSampleWeight,
        kOrder,
        kBounds,
        kFirst,
        kLast,
        kSeconds,
        kNumbers,
        kNumber,
        kForwards,
        kSums,
        kResult,
        kScores,
        kPred,
        kKeepRefused
    };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    program::Program& program = bound.program();
    program::Loss& loss = program.loss();
    const InUse in_use(bound);
    const bool weighted = call[kSampleWeight].given();
    const DataRows x = read_any_rows(call, call[kX]);
    program::Batch batch =
        batch_of(call, bound, call[kX], x, call[kTarget], read_any_rows(call, call[kTarget]));
    if (weighted) batch.targets.weight = read_vector(call, call[kSampleWeight], x.rows).data;

    const DataRows bounds = read_any_rows(call, call[kBounds]);
    const bool ordered = call[kOrder].given();
    const DataRows order = ordered ? read_any_rows(call, call[kOrder]) : DataRows{};
    if (bounds.number != Number::int64 || bounds.row != 1 ||
        (ordered && (order.number != Number::int64 || order.row != 1))) {
        call.type_error(call[kBounds], "and order must be contiguous int64");
    }
    const auto* bound_of = static_cast<const std::int64_t*>(bounds.data);
    const auto* rows = static_cast<const std::int64_t*>(order.data);
    const std::int64_t first = integer(call, call[kFirst], 0);
    const std::int64_t last = integer(call, call[kLast], 0);
    const Index available = ordered ? order.rows : x.rows;
    if (last >= bounds.rows || first > last) call.value_error(call[kLast], "must be a batch of bounds");
    Index most = 0;
    for (Index i = first; i < last; ++i) {
        const Index n = bound_of[i + 1] - bound_of[i];
        if (bound_of[i] < 0 || n < program.least_rows() || bound_of[i + 1] > available) {
            call.value_error(call[kBounds], "must be rising numbers of rows");
        }
        most = std::max(most, n);
    }
    const Numbers numbers = read_numbers(call, call[kNumbers], bound);
    std::int64_t number = positive_integer(call, call[kNumber]);
    const auto forwards = py::handle(call[kForwards].object).cast<std::vector<std::uint64_t>>();
    double* result = const_cast<double*>(read_doubles(call, call[kResult], 4));
    double* sums = const_cast<double*>(read_doubles(call, call[kSums], 2));
    double* scores = call[kScores].given()
                         ? const_cast<double*>(read_doubles(call, call[kScores], loss.score_count()))
                         : nullptr;
    const double seconds = call[kSeconds].given() ? non_negative(call, call[kSeconds]) : 1e18;
    Shape pred_shape;
    Output pred;
    if (call[kPred].given()) pred = update_flat(call, call[kPred], pred_shape);
    if (pred.data != nullptr && pred.cols != most * loss.cols) {
        call.value_error(call[kPred], "must hold the predictions of a batch");
    }
    const bool keep_refused = flag(call, call[kKeepRefused]);

    const auto rows_exist = [&](Index i) {
        return !ordered || i >= last ||
               std::all_of(rows + bound_of[i], rows + bound_of[i + 1],
                           [&](Index row) { return row >= 0 && row < x.rows; });
    };
    bool allowed = rows_exist(first);  // of the batch that comes next
    Index done = 0;
    const auto step = [&](Index i) {
        const Index n = bound_of[i + 1] - bound_of[i];
        const std::int64_t* own = ordered ? rows + bound_of[i] : nullptr;
        batch.rows = n;
        if (!allowed) return Outcome::bad_batch;
        allowed = rows_exist(i + 1);
        const bool more = ordered && allowed && i + 1 < last;
        batch.x.order = batch.values.order = batch.targets.order = {
            own, more ? own + n : nullptr, more ? bound_of[i + 2] - bound_of[i + 1] : 0};
        program.prepare(n, weighted);
        bound.set_masks(forwards, static_cast<std::uint64_t>(done));
        return program.step(batch, number, numbers.of(done), signal_or_stop);
    };
    const auto steps = [&] {
        const double start = seconds < 1e18 ? now() : 0.0;
        for (Index i = first; i < last; ++i) {
            const Outcome of = step(i);
            if (of == Outcome::done || (of == Outcome::refused && keep_refused)) {
                ++done;
                sums[0] += loss.total_weight();
                sums[1] += loss.total_weight() * loss.value();
                if (scores != nullptr) loss.score(program.prediction(), scores);
            }
            note(result, done, of, program);  // at once: a later step may fail for want of memory
            if (of == Outcome::cancelled) return false;
            if (of != Outcome::done) return true;
            ++number;
            if ((done == numbers.sets && numbers.sets > 1) || (seconds < 1e18 && now() - start >= seconds))
                return true;
        }
        return true;
    };
    program.prepare(bound_of[first + (first < last ? 1 : 0)] - bound_of[first], weighted);
    const double cost = program.cost_ns() * static_cast<double>(last - first);
    if (!without_gil(cost, steps) && PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (pred.data != nullptr) {
        std::memcpy(pred.data, program.prediction(), static_cast<std::size_t>(pred.cols) * sizeof(float));
    }
    Py_RETURN_NONE;
}

constexpr const char* kRunStepDoc =
    R"(run_step(program, x, target, sample_weight, numbers, number, forwards, result)
--

One step on all rows of x, as `run_steps` does it. Returns its loss, or None where it was not done: then `result` says
why. Nothing fails once a parameter has changed.
)";

PyObject* run_step(Call& call) {
    enum { kProgram, kX, kTarget, kSampleWeight, kNumbers, kNumber, kForwards, kResult };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    program::Program& program = bound.program();
    const InUse in_use(bound);
    const DataRows x = read_any_rows(call, call[kX]);
    program::Batch batch =
        batch_of(call, bound, call[kX], x, call[kTarget], read_any_rows(call, call[kTarget]));
    const bool weighted = call[kSampleWeight].given();
    if (weighted) batch.targets.weight = read_vector(call, call[kSampleWeight], x.rows).data;
    batch.rows = x.rows;
    if (x.rows < program.least_rows()) call.value_error(call[kX], "must have more rows");
    const Numbers numbers = read_numbers(call, call[kNumbers], bound);
    const std::int64_t number = positive_integer(call, call[kNumber]);
    const auto forwards = py::handle(call[kForwards].object).cast<std::vector<std::uint64_t>>();
    program.prepare(x.rows, weighted);
    bound.set_masks(forwards, 0);
    double* result = const_cast<double*>(read_doubles(call, call[kResult], 4));
    py::object loss = owned(PyFloat_FromDouble(0.0));  // before the step: what was done must be returned
    Outcome of = Outcome::cancelled;
    without_gil(program.cost_ns(), [&] {
        of = program.step(batch, number, numbers.data, signal_raised);
        return true;
    });
    if (of == Outcome::cancelled) throw py::error_already_set();
    note(result, of == Outcome::done ? 1 : 0, of, program);
    if (of != Outcome::done) Py_RETURN_NONE;
    reinterpret_cast<PyFloatObject*>(loss.ptr())->ob_fval = result[3];
    return loss.release().ptr();
}

constexpr const char* kRunForwardDoc =
    R"(run_forward(program, x, pred, batch_size)
--

The rows of x through the program of a forward alone into pred, which is contiguous: ``batch_size`` at a time.
)";

PyObject* run_forward(Call& call) {
    enum { kProgram, kX, kPred, kBatchSize };
    auto& bound = py::handle(call[kProgram].object).cast<BoundProgram&>();
    const InUse in_use(bound);
    const DataRows x = read_any_rows(call, call[kX]);
    if (x.cols != bound.columns()) {
        call.value_error(call[kX], "must have rows of " + std::to_string(bound.columns()) + " values");
    }
    Shape shape;
    const Output pred = update_flat(call, call[kPred], shape);
    const Index cols = bound.program().outputs();
    if (pred.cols != x.rows * cols) call.value_error(call[kPred], "must have a row for each of x");
    const Index batch = positive_integer(call, call[kBatchSize]);
    const Index row_bytes = x.row * kNumberBytes[static_cast<int>(x.number)];
    const bool finished = without_gil(1e9, [&] {
        constexpr double kPollSeconds = 0.05;
        double polled = now();
        for (Index begin = 0; begin < x.rows; begin += batch) {
            const Index n = std::min(batch, x.rows - begin);
            const char* at = static_cast<const char*>(x.data) + begin * row_bytes;
            if (!bound.program().forward({at, x.row, x.number, {}}, n, pred.data + begin * cols,
                                         signal_raised))
                return false;
            if (now() - polled < kPollSeconds) continue;
            if (signal_raised()) return false;
            polled = now();
        }
        return true;
    });
    if (!finished) throw py::error_already_set();
    Py_RETURN_NONE;
}

}  // namespace

void bind_program(py::module_& m) {
    py::register_exception_translator([](std::exception_ptr thrown) {
        try {
            if (thrown) std::rethrow_exception(thrown);
        } catch (const DeviceError& e) {
            set_cuda_error(e.what());
        }
    });
    py::class_<BoundProgram>(m, "Program")
        .def(py::init<const py::list&, const py::list&, bool, std::size_t,
                      const std::shared_ptr<BoundUpdate>&, const std::optional<py::capsule>&, bool>(),
             py::arg("buffers"), py::arg("ops"), py::arg("chains"), py::arg("loss"), py::arg("update"),
             py::arg("kernels") = py::none(), py::arg("tf32") = false)
        .def(py::init<const py::list&, const py::list&, bool, program::Ref>(), py::arg("buffers"),
             py::arg("ops"), py::arg("chains"), py::arg("pred"))
        .def("least_rows", [](BoundProgram& bound) { return bound.program().least_rows(); })
        .def("lines",
             [](BoundProgram& bound) {
                 py::list found;
                 for (const program::Line& line : bound.program().lines()) {
                     found.append(py::make_tuple(line.op, line.region, line.blocks, line.work.flops,
                                                 line.work.floats, line.work.ns));
                 }
                 return found;
             })
        .def("update_work",
             [](BoundProgram& bound) {
                 const program::Update& update = bound.program().update();
                 return py::make_tuple(update.plan.floats(), update.cost_ns());
             })
        .def("time_regions",
             [](BoundProgram& bound, int repeats) { return bound.program().time_regions(repeats); })
        .def("time_parts",
             [](BoundProgram& bound, std::intptr_t stream) {
                 const InUse in_use(bound);
                 return bound.on_device().time_parts(reinterpret_cast<void*>(stream));
             })
        .def("graphs_made", [](BoundProgram& bound) { return bound.on_device().graphs_made(); })
        .def("arena_bytes", [](BoundProgram& bound, Index n) { return bound.program().arena_bytes(n); });
    add_function<run_steps>(m, kRunStepsDoc);
    add_function<run_step>(m, kRunStepDoc);
    m.def("packed_floats", &packed_floats, py::arg("k"), py::arg("n"));
    m.def("stop_steps", &stop_steps, py::arg("stop"));
    add_function<run_forward>(m, kRunForwardDoc);
}

}  // namespace fastnn::bind

#include <pybind11/stl.h>

#include "bind/arrays.h"
#include "bind/batches.h"
#include "bind/bind.h"
#include "bind/bound_update.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "bind/updates.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kRunUpdateDoc =
    R"(run_update(update, numbers, step, place=None)
--

The step of this number, counted from 1, of an `Update`, for `fastnn._update`. ``numbers``: the memory of float64
(groups, 10), `GroupNumbers` of core/update_options.h; ``place``: one of the arrays where they lie on a device. Returns
the number of the first array, counted through all groups, whose gradient is not finite, where that is refused; nothing
is changed then. Else -1.
)";

// Somebody's memory while this lives.
class BufferView {
 public:
    explicit BufferView(PyObject* of) {
        if (PyObject_GetBuffer(of, &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    }
    ~BufferView() { PyBuffer_Release(&view_); }
    BufferView(const BufferView&) = delete;
    BufferView& operator=(const BufferView&) = delete;

    const void* data() const { return view_.buf; }
    std::size_t bytes() const { return static_cast<std::size_t>(view_.len); }

 private:
    Py_buffer view_;
};

PyObject* run_update(Call& call) {
    enum { kUpdate, kNumbers, kStep, kPlace };
    auto& bound = py::handle(call[kUpdate].object).cast<BoundUpdate&>();
    program::Update& update = *bound.update;
    const BufferView numbers(call[kNumbers].object);
    if (numbers.bytes() != update.groups.size() * sizeof(GroupNumbers))
        call.value_error(call[kNumbers], "must be float64 of shape (groups, 10)");
    const auto* of_groups = static_cast<const GroupNumbers*>(numbers.data());
    check_numbers(call, call[kNumbers], of_groups, static_cast<Index>(update.groups.size()));
    const std::int64_t step = positive_integer(call, call[kStep]);
    if (call[kPlace].given()) read_flat(call, call[kPlace]);  // enters the device
    const UpdateInUse in_use(bound);
    update.set(step, of_groups);
    if (call.device() != nullptr) {
        update_on_device(update.plan, *call.device());
    } else {
        update.prepare(kernels());
        // To the end: a half-applied update is never seen.
        const double cost_ns = update.plan.cost_ns();
        without_gil(cost_ns, [&] {
            const std::vector<Task>& tasks = update.tasks();
            return run_tasks(tasks.data(), static_cast<int>(tasks.size()), cost_ns, nullptr);
        });
    }
    return PyLong_FromLongLong(update.plan.refused());
}

}  // namespace

void bind_optimizer(py::module_& m) {
    py::class_<BoundUpdate, std::shared_ptr<BoundUpdate>>(m, "Update")
        .def(py::init<const std::string&, const py::list&, const std::string&, double, double, bool, bool>(),
             py::arg("rule"), py::arg("groups"), py::arg("clip"), py::arg("limit"), py::arg("floor"),
             py::arg("refuse"), py::arg("on_device"));
    add_function<run_update>(m, kRunUpdateDoc, Places::device_too);
}

}  // namespace fastnn::bind

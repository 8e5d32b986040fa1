#include "bind/updates.h"

#include <algorithm>

#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

bool is_sequence(const Value& v) { return PyList_Check(v.object) || PyTuple_Check(v.object); }

}  // namespace

void UpdateArrays::add(const Value (&values)[kRoles], const UpdateOptions& options) {
    const Value& first = values[0];
    if (PyIter_Check(first.object)) {  // such as net.parameters(), which can be walked once only
        call_.type_error(first, "is a " + type_name(first.object) + "; pass a list of its arrays");
    }
    const bool many = is_sequence(first);
    Py_ssize_t count = 1;
    PyObject* lists[kRoles] = {};
    for (int role = 0; role < kRoles; ++role) {
        const Value& value = values[role];
        if (value.object == nullptr) continue;
        if (is_sequence(value) != many) {
            const char* wanted = many ? "must be a list of arrays" : "must be one array";
            call_.type_error(value, std::string(wanted) + ", as 'param' is, got " + type_name(value.object));
        }
        if (!many) continue;
        lists[role] = fixed_items(call_, value);
        const Py_ssize_t own = PyTuple_GET_SIZE(lists[role]);
        if (role == 0) count = own;
        if (own != count) {
            call_.value_error(value, "must hold " + std::to_string(count) + " arrays, as 'param' does, got " +
                                         std::to_string(own));
        }
    }
    for (Py_ssize_t i = 0; i < count; ++i) {
        Value items[kRoles];
        for (int role = 0; role < kRoles; ++role) {
            items[role] = values[role];
            if (lists[role] != nullptr) {
                items[role].object = PyTuple_GET_ITEM(lists[role], i);
                items[role].index = i;
            }
        }
        add_tensor(items);
    }
    check_all_apart();
    plan_.options.push_back(options);
    plan_.lay_out();
}

float* UpdateArrays::in_place(const Value& value, Shape& shape) {
    const Output array = update_flat(call_, value, shape);  // the caller or the call keeps it alive
    regions_.push_back(array.region);
    return array.data;
}

void UpdateArrays::add_tensor(const Value (&items)[kRoles]) {
    Shape shape;
    UpdateTensor t{};
    t.param = in_place(items[0], shape);

    const Value& gradient = items[1];
    if (!gradient.given()) {
        call_.type_error(gradient, "is None: every parameter needs a gradient; call backward first");
    }
    const Input grad = read_flat(call_, gradient);
    require_shape(call_, gradient, grad.shape, shape);
    regions_.push_back(grad.region);
    t.grad = grad.data;

    float* others[kRoles] = {};
    for (int role = 2; role < kRoles; ++role) {
        const Value& value = items[role];
        if (value.object == nullptr) continue;
        Shape own;
        others[role] = in_place(value, own);
        require_shape(call_, value, own, shape);
    }
    t.slot0 = others[static_cast<int>(Role::slot0)];
    t.slot1 = others[static_cast<int>(Role::slot1)];
    t.slot2 = others[static_cast<int>(Role::slot2)];
    t.initial = others[static_cast<int>(Role::initial)];
    t.n = grad.cols;
    t.cols = shape.nd > 0 ? shape.dims[shape.nd - 1] : 1;
    plan_.add(t);
}

// Sorted by address, only neighbours can meet.
void UpdateArrays::check_all_apart() {
    std::sort(regions_.begin(), regions_.end(), [](const Region& a, const Region& b) { return a.lo < b.lo; });
    for (std::size_t i = 0; i < regions_.size(); ++i) {
        for (std::size_t j = i + 1; j < regions_.size() && regions_[j].lo < regions_[i].hi; ++j) {
            check_apart(call_, regions_[i], regions_[j]);
        }
    }
}

void UpdateArrays::run(std::uint64_t number) {
    if (call_.device() != nullptr) return update_on_device(plan_, *call_.device());
    Tasks tasks;
    tasks.add(kernels().update, plan_.args);
    tasks.take_turns(plan_, number);
    tasks.run_to_the_end(plan_.cost_ns());
}

void update_on_device(UpdatePlan& plan, OnDevice& device) {
    UpdateArgs args = plan.args;
    args.tensors = device.upload(plan.tensors.data(), args.count);
    args.options = device.upload(plan.options.data(), static_cast<Index>(plan.options.size()));
    if (args.scales != nullptr) args.scales = device.take<float>(plan.scale_count());
    if (args.sums != nullptr) {
        args.sums = device.take<double>(args.chunks);
        args.verdict = device.upload(plan.args.verdict, 1);
    }
    device.launch(UpdateNormArgs{args});
    device.launch(args);
    if (args.refuse_non_finite) device.download(plan.args.verdict, args.verdict, sizeof(UpdateVerdict));
}

}  // namespace fastnn::bind

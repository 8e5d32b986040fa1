#include <cmath>

#include "bind/bind.h"
#include "bind/scalars.h"
#include "bind/updates.h"

namespace fastnn::bind {
namespace {

constexpr const char* kUpdateStepDoc =
    R"(update_step(rule, groups, *, step, clip='none', limit=0.0, floor=0.0, refuse=True)
--

One step of an optimizer over all its groups, for `fastnn._optimizer`, which checks every option.

``groups``: a tuple ``(param, grad, slot0, slot1, slot2, initial, numbers, decay)`` for each group: lists of
arrays or None; the numbers of ``rule`` as in ``core/update_options.h``; and
``(weight_decay, l1, noise, seed, places)``, the last three of the gradient noise: its standard deviation, its
seed and the number of each array. Returns the number of the first array, counted through all groups, whose
gradient is not finite, where that is refused; nothing is changed then. Else -1.
)";

// Numbers of a tuple: float32 can hold each.
void read_numbers(const Call& call, const Value& groups, PyObject* tuple, Py_ssize_t first, int count,
                  double* out) {
    if (!PyTuple_Check(tuple)) call.type_error(groups, "must hold tuples of numbers");
    if (PyTuple_GET_SIZE(tuple) < first + count) call.value_error(groups, "holds too few numbers");
    for (int i = 0; i < count; ++i) {
        out[i] = number(call, {PyTuple_GET_ITEM(tuple, first + i), groups.name});
        if (!std::isfinite(static_cast<float>(out[i]))) {
            call.value_error(groups, "holds " + std::to_string(out[i]) + ", which is not finite as float32");
        }
    }
}

PyObject* update_step(Call& call) {
    enum { kRule, kGroups, kStep, kClip, kLimit, kFloor, kRefuse };
    constexpr int kNumbers = kRoles;
    constexpr int kDecay = kRoles + 1;
    constexpr const char* kNames[kRoles] = {"param", "grad", "slot0", "slot1", "slot2", "initial"};
    const auto rule = static_cast<Rule>(
        choice(call, call[kRule], {"sgd", "momentum", "rmsprop", "adagrad", "adam", "rprop"}));
    const std::int64_t step = positive_integer(call, call[kStep]);
    const Value given = call[kGroups];
    if (!PyList_Check(given.object)) call.type_error(given, "must be a list, got " + type_name(given.object));
    PyObject* groups = fixed_items(call, given);

    UpdateArrays arrays(call);
    UpdatePlan& plan = arrays.plan;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(groups); ++i) {
        PyObject* group = PyTuple_GET_ITEM(groups, i);
        if (!PyTuple_Check(group) || PyTuple_GET_SIZE(group) != kRoles + 2) {
            call.type_error(given, "must hold tuples of eight");
        }
        Value values[kRoles];
        for (int role = 0; role < kRoles; ++role) {
            PyObject* object = PyTuple_GET_ITEM(group, role);
            const bool there = role < 2 || object != Py_None;
            values[role] = {there ? object : nullptr, kNames[role]};
        }
        GroupNumbers numbers{};
        PyObject* decay = PyTuple_GET_ITEM(group, kDecay);
        read_numbers(call, given, PyTuple_GET_ITEM(group, kNumbers), 0, count_of_numbers(rule),
                     numbers.of_rule);
        double others[3];
        read_numbers(call, given, decay, 0, 3, others);
        numbers.weight_decay = others[0];
        numbers.l1 = others[1];
        numbers.noise = others[2];
        if (PyTuple_GET_SIZE(decay) != 5) call.value_error(given, "holds too few numbers");
        const auto seed = static_cast<std::uint64_t>(integer(call, {PyTuple_GET_ITEM(decay, 3), "seed"}));
        const bool towards_initial = values[static_cast<int>(Role::initial)].object != nullptr;
        plan.options.push_back(update_options(rule, step, numbers, towards_initial, seed));
        PyObject* places = PyTuple_GET_ITEM(decay, 4);
        arrays.add(values, static_cast<int>(i), places == Py_None ? nullptr : places);
    }
    arrays.check_all_apart();

    plan.args.clip =
        static_cast<Clip>(choice(call, call[kClip], {"none", "value", "norm", "global_norm", "adaptive"}));
    plan.args.clip_limit = static_cast<float>(non_negative(call, call[kLimit]));
    plan.args.clip_floor = static_cast<float>(non_negative(call, call[kFloor]));
    plan.args.refuse_non_finite = flag(call, call[kRefuse]);
    arrays.run(static_cast<std::uint64_t>(step));
    return PyLong_FromLongLong(plan.refused());
}

}  // namespace

void bind_optimizer(py::module_& m) { add_function<update_step>(m, kUpdateStepDoc, Places::device_too); }

}  // namespace fastnn::bind

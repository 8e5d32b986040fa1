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
arrays or None; the numbers of ``rule`` in the order of the functions in ``bind/updates.h``; and
``(weight_decay, l1, noise, seed, places)``, the last three of the gradient noise: its standard deviation, its
seed and the number of each array. Returns the number of the first array, counted through all groups, whose
gradient is not finite, where that is refused; nothing is changed then. Else -1.
)";

// The numbers of a group, taken one after another.
class Numbers {
 public:
    Numbers(Call& call, const Value& groups, PyObject* tuple) : call_(call), groups_(groups), tuple_(tuple) {
        if (!PyTuple_Check(tuple)) call_.type_error(groups, "must hold tuples of numbers");
    }

    PyObject* object() {
        if (next_ >= PyTuple_GET_SIZE(tuple_)) call_.value_error(groups_, "holds too few numbers");
        return PyTuple_GET_ITEM(tuple_, next_++);
    }
    double number() {
        const double x = bind::number(call_, {object(), groups_.name});
        if (!std::isfinite(static_cast<float>(x))) {
            call_.value_error(groups_, "holds " + std::to_string(x) + ", which is not finite as float32");
        }
        return x;
    }
    bool flag() { return number() != 0.0; }
    EpsMode eps_mode() {
        return static_cast<EpsMode>(choice(call_, {object(), "eps_mode"}, {"outside", "inside", "hat"}));
    }

 private:
    Call& call_;
    Value groups_;
    PyObject* tuple_;
    Py_ssize_t next_ = 0;
};

UpdateOptions options_of_group(Rule rule, double step, Numbers& n, Numbers& d, bool towards_initial) {
    const double lr = n.number();
    UpdateOptions o{};
    bool decoupled = false;
    // In order: an argument list would not say which number is taken first.
    switch (rule) {
        case Rule::sgd:
            o = sgd_options(lr);
            break;
        case Rule::momentum: {
            const double momentum = n.number();
            const double share = n.number();
            const bool nesterov = n.flag();
            o = momentum_options(lr, momentum, share, nesterov, n.flag());
            break;
        }
        case Rule::rmsprop: {
            const double rho = n.number();
            const double eps = n.number();
            const EpsMode mode = n.eps_mode();
            const bool centered = n.flag();
            const bool buffered = n.flag();
            o = rmsprop_options(lr, rho, eps, mode, centered, buffered, n.number());
            break;
        }
        case Rule::adagrad: {
            const double eps = n.number();
            o = adagrad_options(lr, eps, n.eps_mode());
            break;
        }
        case Rule::adam: {
            const double beta1 = n.number();
            const double beta2 = n.number();
            const double eps = n.number();
            const EpsMode mode = n.eps_mode();
            const bool amsgrad = n.flag();
            o = adam_options(step, lr, beta1, beta2, eps, mode, amsgrad);
            decoupled = n.flag();
            break;
        }
        case Rule::rprop: {
            const double shrink = n.number();
            const double grow = n.number();
            const double smallest = n.number();
            o = rprop_options(shrink, grow, smallest, n.number());
            break;
        }
    }
    const double weight_decay = d.number();
    set_decay(o, lr, weight_decay, d.number(), decoupled, towards_initial);
    o.noise = static_cast<float>(d.number());
    return o;
}

// One scale for each array, or for each column of a matrix; returns how many there are.
Index count_units(UpdateArgs& args, std::vector<UpdateTensor>& tensors) {
    constexpr Index kColumnsOfChunk = 64;
    const bool adaptive = args.clip == Clip::adaptive;
    Index units = 0;
    for (UpdateTensor& t : tensors) {
        const bool matrix = adaptive && t.cols > 1 && t.n > t.cols;
        t.units = matrix ? t.cols : 1;
        t.first_unit = units;
        t.first_unit_chunk = args.unit_chunks;
        units += t.units;
        if (adaptive) args.unit_chunks += matrix ? (t.cols + kColumnsOfChunk - 1) / kColumnsOfChunk : 1;
    }
    return units;
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
    std::vector<UpdateOptions> options;
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
        Numbers numbers(call, given, PyTuple_GET_ITEM(group, kNumbers));
        Numbers decay(call, given, PyTuple_GET_ITEM(group, kDecay));
        const bool towards_initial = values[static_cast<int>(Role::initial)].object != nullptr;
        UpdateOptions o = options_of_group(rule, static_cast<double>(step), numbers, decay, towards_initial);
        o.noise_seed = static_cast<std::uint64_t>(integer(call, {decay.object(), "seed"}));
        o.noise_step = static_cast<std::uint64_t>(step - 1);
        PyObject* places = decay.object();
        options.push_back(o);
        arrays.add(values, static_cast<int>(i), places == Py_None ? nullptr : places);
    }
    arrays.check_all_apart();

    UpdateArgs args{};
    args.options = options.data();
    args.clip =
        static_cast<Clip>(choice(call, call[kClip], {"none", "value", "norm", "global_norm", "adaptive"}));
    args.clip_limit = static_cast<float>(non_negative(call, call[kLimit]));
    args.clip_floor = static_cast<float>(non_negative(call, call[kFloor]));
    args.refuse_non_finite = flag(call, call[kRefuse]);
    const bool scales = args.clip != Clip::none && args.clip != Clip::value;
    const bool sums = args.refuse_non_finite || args.clip == Clip::norm || args.clip == Clip::global_norm;
    const Index units = scales ? count_units(args, arrays.tensors()) : 0;
    std::vector<float> scale_memory(static_cast<std::size_t>(units));
    std::vector<double> sum_memory(static_cast<std::size_t>(sums ? arrays.chunks() : 0));
    UpdateVerdict verdict{false, -1};
    args.scales = scales ? scale_memory.data() : nullptr;
    args.sums = sums ? sum_memory.data() : nullptr;
    args.verdict = sums ? &verdict : nullptr;
    arrays.run(args, (sums ? 1.0 : 0.0) + (args.clip == Clip::adaptive ? 2.0 : 0.0));
    return PyLong_FromLongLong(verdict.refused ? verdict.non_finite : -1);
}

}  // namespace

void bind_optimizer(py::module_& m) { add_function<update_step>(m, kUpdateStepDoc); }

}  // namespace fastnn::bind

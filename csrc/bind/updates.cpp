#include "bind/updates.h"

#include <algorithm>
#include <cmath>

#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

UpdateOptions options_of(Rule rule, double lr) {
    UpdateOptions o{};
    o.rule = rule;
    o.lr = static_cast<float>(lr);
    o.square_scale = o.root_scale = o.keep = 1.0f;
    return o;
}

void set_eps(UpdateOptions& o, double eps, EpsMode mode) {
    (mode == EpsMode::inside ? o.eps_inside : o.eps) = static_cast<float>(eps);
}

bool is_sequence(const Value& v) { return PyList_Check(v.object) || PyTuple_Check(v.object); }

}  // namespace

UpdateOptions sgd_options(double lr) { return options_of(Rule::sgd, lr); }

UpdateOptions momentum_options(double lr, double momentum, double share, bool nesterov, bool velocity) {
    UpdateOptions o = options_of(Rule::momentum, lr);
    o.decay0 = static_cast<float>(momentum);
    o.one_minus0 = static_cast<float>(velocity ? lr * share : share);
    o.nesterov = nesterov;
    o.style = velocity ? MomentumStyle::velocity : MomentumStyle::buffer;
    return o;
}

UpdateOptions rmsprop_options(double lr, double rho, double eps, EpsMode mode, bool centered, bool buffered,
                              double momentum) {
    UpdateOptions o = options_of(Rule::rmsprop, lr);
    o.decay0 = static_cast<float>(rho);
    o.one_minus0 = static_cast<float>(1.0 - rho);
    o.centered = centered;
    o.buffered = buffered;
    o.decay1 = static_cast<float>(momentum);
    set_eps(o, eps, mode);
    return o;
}

UpdateOptions adagrad_options(double lr, double eps, EpsMode mode) {
    UpdateOptions o = options_of(Rule::adagrad, lr);
    set_eps(o, eps, mode);
    return o;
}

UpdateOptions adam_options(double step, double lr, double beta1, double beta2, double eps, EpsMode mode,
                           bool amsgrad) {
    const double m_share = 1.0 - std::pow(beta1, step);
    const double v_share = 1.0 - std::pow(beta2, step);
    UpdateOptions o = options_of(Rule::adam, (mode == EpsMode::hat ? lr * std::sqrt(v_share) : lr) / m_share);
    o.decay0 = static_cast<float>(beta1);
    o.decay1 = static_cast<float>(beta2);
    o.one_minus0 = static_cast<float>(1.0 - beta1);
    o.one_minus1 = static_cast<float>(1.0 - beta2);
    o.amsgrad = amsgrad;
    set_eps(o, eps, mode);
    if (mode == EpsMode::outside) o.root_scale = static_cast<float>(1.0 / std::sqrt(v_share));
    if (mode == EpsMode::inside) o.square_scale = static_cast<float>(1.0 / v_share);
    return o;
}

UpdateOptions rprop_options(double shrink, double grow, double smallest, double largest) {
    UpdateOptions o = options_of(Rule::rprop, 0.0);
    o.decay0 = static_cast<float>(shrink);
    o.decay1 = static_cast<float>(grow);
    o.one_minus0 = static_cast<float>(smallest);
    o.one_minus1 = static_cast<float>(largest);
    return o;
}

void set_decay(UpdateOptions& o, double lr, double weight_decay, double l1, bool decoupled,
               bool towards_initial) {
    if (decoupled && l1 == 0.0 && !towards_initial) {
        o.keep = static_cast<float>(1.0 - lr * weight_decay);
        return;
    }
    o.decay_parameter = decoupled;
    o.decay = static_cast<float>(decoupled ? lr * weight_decay : weight_decay);
    o.l1 = static_cast<float>(decoupled ? lr * l1 : l1);
}

void UpdateArrays::add(const Value (&values)[kRoles], int group, PyObject* places) {
    const Value& first = values[0];
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
        Index place = 0;
        if (places != nullptr) {
            const py::object number = owned(PySequence_GetItem(places, i));
            place = integer(call_, {number.ptr(), "places"}, 0);
        }
        add_tensor(items, group, place);
    }
}

float* UpdateArrays::in_place(const Value& value, Shape& shape) {
    const Output array = update_flat(call_, value, shape);  // the caller or the call keeps it alive
    regions_.push_back(array.region);
    return array.data;
}

void UpdateArrays::add_tensor(const Value (&items)[kRoles], int group, Index place) {
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
    int arrays = 2;
    for (int role = 2; role < kRoles; ++role) {
        const Value& value = items[role];
        if (value.object == nullptr) continue;
        Shape own;
        others[role] = in_place(value, own);
        require_shape(call_, value, own, shape);
        ++arrays;
    }
    t.slot0 = others[static_cast<int>(Role::slot0)];
    t.slot1 = others[static_cast<int>(Role::slot1)];
    t.slot2 = others[static_cast<int>(Role::slot2)];
    t.initial = others[static_cast<int>(Role::initial)];
    t.n = grad.cols;
    t.cols = shape.nd > 0 ? shape.dims[shape.nd - 1] : 1;
    t.units = 1;
    t.first_chunk = chunks_;
    t.place = static_cast<std::uint64_t>(place);
    t.group = group;
    chunks_ += stream_chunks(t.n);
    floats_ += (2.0 * arrays - 1.0) * static_cast<double>(t.n);
    elements_ += static_cast<double>(t.n);
    tensors_.push_back(t);
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

void UpdateArrays::run(UpdateArgs args, double floats) const {
    args.tensors = tensors_.data();
    args.count = static_cast<Index>(tensors_.size());
    args.chunks = chunks_;
    Tasks tasks;
    tasks.add(kernels().update, args);
    tasks.run_to_the_end(stream_ns(floats_ + floats * elements_));
}

}  // namespace fastnn::bind

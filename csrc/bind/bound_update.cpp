#include "bind/bound_update.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

namespace fastnn::bind {

UpdateInUse::UpdateInUse(BoundUpdate& bound) : bound_(bound) {
    if (bound_.running_) {
        throw ArgumentError(
            PyExc_RuntimeError,
            "Optimizer.step: a step of this optimizer is running already, in another thread or "
            "in the code that a signal handler interrupted; let them take turns, or give each "
            "thread an optimizer of its own");
    }
    bound_.running_ = true;
}

DeviceArray KeptArrays::floats(py::handle object) {
    if (object.is_none()) return {};
    kept_.push_back(py::reinterpret_borrow<py::object>(object));
    if (on_device_) {
        const DeviceArray given = device_array(object);
        if (given.number != Number::float32 || !given.contiguous)
            throw std::invalid_argument("program: arrays on the device must be contiguous float32");
        return given;
    }
    auto given = py::reinterpret_borrow<py::array_t<float>>(object);
    return {given.mutable_data(),
            Number::float32,
            std::vector<Index>(given.shape(), given.shape() + given.ndim()),
            {},
            true};
}

BoundUpdate::BoundUpdate(const std::string& rule, const py::list& groups, const std::string& clip,
                         double limit, double floor, bool refuse, bool on_device)
    : arrays_(on_device) {
    UpdatePlan& plan = update->plan;
    for (const py::handle item : groups) {
        const auto group = item.cast<py::tuple>();
        const auto array = [&](std::size_t role, std::size_t i) {
            const py::handle list = group[role];
            return list.is_none() ? nullptr : arrays_.array(list.cast<py::list>()[i]);
        };
        const auto places = group[6].cast<std::vector<std::uint64_t>>();
        for (std::size_t i = 0; i < places.size(); ++i) {
            UpdateTensor t{};
            const DeviceArray param = arrays_.floats(group[0].cast<py::list>()[i]);
            t.param = static_cast<float*>(param.data);
            t.n = 1;
            for (const Index length : param.shape) t.n *= length;
            t.cols = param.shape.empty() ? 1 : param.shape.back();
            t.grad = array(1, i);
            t.slot0 = array(2, i);
            t.slot1 = array(3, i);
            t.slot2 = array(4, i);
            t.initial = array(5, i);
            t.place = places[i];
            t.group = static_cast<int>(update->groups.size());
            plan.add(t);
        }
        update->groups.push_back(
            {named<Rule>(rule, {"sgd", "momentum", "rmsprop", "adagrad", "adam", "rprop"}),
             !group[5].is_none(), group[7].cast<std::uint64_t>()});
        plan.options.emplace_back();
    }
    plan.args.clip = named<Clip>(clip, {"none", "value", "norm", "global_norm", "adaptive"});
    plan.args.clip_limit = static_cast<float>(limit);
    plan.args.clip_floor = static_cast<float>(floor);
    plan.args.refuse_non_finite = refuse;
    plan.lay_out();
}

}  // namespace fastnn::bind

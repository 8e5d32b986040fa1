#include "bind/bound_program.h"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "bind/scalars.h"
#include "core/dropout.h"
#include "program/fuse.h"

namespace fastnn::bind {
namespace {

using program::Ref;

// Fields of a tuple, taken one after another.
class Fields {
 public:
    explicit Fields(const py::tuple& given) : given_(given) {}

    py::handle item() { return given_[next_++]; }
    template <class T>
    T take() {
        return item().cast<T>();
    }
    Ref ref() { return take<Ref>(); }
    Index size() { return take<Index>(); }
    Activation activation() {
        const py::handle name = item();
        if (name.is_none()) return Activation::none;
        const auto text = name.cast<std::string>();
        int kind = 1;
        for (const char* known : kActivationNames) {
            if (text == known) return static_cast<Activation>(kind);
            ++kind;
        }
        throw std::invalid_argument("program: unknown activation " + text);
    }
    float alpha(Activation of) {
        const py::handle given = item();
        return given.is_none() ? default_alpha(of) : given.cast<float>();
    }

 private:
    const py::tuple& given_;
    std::size_t next_ = 0;
};

template <class Choice>
Choice named(const std::string& name, std::initializer_list<const char*> names) {
    int number = 0;
    for (const char* known : names) {
        if (name == known) return static_cast<Choice>(number);
        ++number;
    }
    throw std::invalid_argument("program: unknown choice " + name);
}

// All programs that run now. Guarded by the GIL.
std::vector<BoundProgram*> g_running;

}  // namespace

InUse::InUse(BoundProgram& bound) : bound_(bound) {
    for (BoundProgram* other : g_running) {
        if (other == &bound || other->shares_parameters(bound)) {
            throw ArgumentError(
                PyExc_RuntimeError,
                "Trainer: its model is being trained already, in another thread or by the code "
                "that a signal handler interrupted; train it in turn, or give each trainer a "
                "model of its own");
        }
    }
    g_running.push_back(&bound);
}

InUse::~InUse() { std::erase(g_running, &bound_); }

BoundProgram::BoundProgram(const py::list& buffers, const py::list& ops, bool chains, std::size_t loss,
                           const py::tuple& update, const std::optional<py::capsule>& kernels, bool tf32) {
    if (kernels.has_value()) cuda_ = cuda_kernels_of(*kernels);
    std::vector<program::Buffer> sizes = buffers_of(buffers);
    std::vector<std::unique_ptr<program::Op>> made = ops_of(ops);
    auto last = make_update(update);
    if (cuda_ != nullptr) {
        std::vector<std::size_t> places = program::fuse(made, loss);
        program_ = std::make_unique<program::DeviceProgram>(
            std::move(sizes), std::move(made), std::move(places), loss, std::move(last), *cuda_, tf32);
        return;
    }
    program_ =
        std::make_unique<program::Program>(std::move(sizes), std::move(made), chains, loss, std::move(last));
}

BoundProgram::BoundProgram(const py::list& buffers, const py::list& ops, bool chains, program::Ref pred)
    : program_(std::make_unique<program::Program>(buffers_of(buffers), ops_of(ops), chains, pred)) {}

std::vector<program::Buffer> BoundProgram::buffers_of(const py::list& given) {
    std::vector<program::Buffer> sizes;
    for (const py::handle item : given) {
        const auto pair = item.cast<std::pair<Index, Index>>();
        sizes.push_back({pair.first, pair.second});
    }
    columns_ = sizes.at(0).per_row;
    return sizes;
}

std::vector<std::unique_ptr<program::Op>> BoundProgram::ops_of(const py::list& given) {
    std::vector<std::unique_ptr<program::Op>> made;
    for (const py::handle item : given) made.push_back(make(item.cast<py::tuple>()));
    return made;
}

void BoundProgram::set_masks(const std::vector<std::uint64_t>& forwards, std::uint64_t more) {
    for (program::Dropout* op : dropouts_) op->step = forwards.at(op->layer) + more;
}

bool BoundProgram::shares_parameters(BoundProgram& other) {
    for (const UpdateTensor& mine : program_->update().plan.tensors)
        for (const UpdateTensor& theirs : other.program_->update().plan.tensors)
            if (mine.param == theirs.param) return true;
    return false;
}

// float32, contiguous; none: null.
DeviceArray BoundProgram::floats(py::handle object) {
    if (object.is_none()) return {};
    kept_.push_back(py::reinterpret_borrow<py::object>(object));
    if (cuda_ != nullptr) {
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

// (rule, groups, clip, limit, floor, refuse); a group is (params, grads, slot0, slot1, slot2, initial,
// places, seed): lists of arrays, or None for those that the rule or its options do not use.
std::unique_ptr<program::Update> BoundProgram::make_update(const py::tuple& given) {
    auto made = std::make_unique<program::Update>();
    UpdatePlan& plan = made->plan;
    Fields fields(given);
    const auto rule =
        named<Rule>(fields.take<std::string>(), {"sgd", "momentum", "rmsprop", "adagrad", "adam", "rprop"});
    for (const py::handle item : fields.item()) {
        const auto group = item.cast<py::tuple>();
        const auto arrays = [&](std::size_t role, std::size_t i) {
            const py::handle list = group[role];
            return list.is_none() ? nullptr : array(list.cast<py::list>()[i]);
        };
        const auto places = group[6].cast<std::vector<std::uint64_t>>();
        for (std::size_t i = 0; i < places.size(); ++i) {
            UpdateTensor t{};
            const DeviceArray param = floats(group[0].cast<py::list>()[i]);
            t.param = static_cast<float*>(param.data);
            t.n = 1;
            for (const Index length : param.shape) t.n *= length;
            t.cols = param.shape.empty() ? 1 : param.shape.back();
            t.grad = arrays(1, i);
            t.slot0 = arrays(2, i);
            t.slot1 = arrays(3, i);
            t.slot2 = arrays(4, i);
            t.initial = arrays(5, i);
            t.place = places[i];
            t.group = static_cast<int>(made->groups.size());
            plan.add(t);
        }
        made->groups.push_back({rule, !group[5].is_none(), group[7].cast<std::uint64_t>()});
        plan.options.emplace_back();
    }
    plan.args.clip =
        named<Clip>(fields.take<std::string>(), {"none", "value", "norm", "global_norm", "adaptive"});
    plan.args.clip_limit = static_cast<float>(fields.take<double>());
    plan.args.clip_floor = static_cast<float>(fields.take<double>());
    plan.args.refuse_non_finite = fields.take<bool>();
    plan.lay_out();
    return made;
}

std::unique_ptr<program::Op> BoundProgram::make(const py::tuple& given) {
    Fields f(given);
    const auto name = f.take<std::string>();
    if (name == "gather") {
        auto op = std::make_unique<program::Gather>();
        op->y = f.ref(), op->size = f.size();
        return op;
    }
    if (name == "round_weight") {
        auto op = std::make_unique<program::RoundWeight>();
        op->y = f.ref();
        op->in = f.size(), op->out = f.size();
        op->weight = array(f.item());
        return op;
    }
    if (name == "pack_weight") {
        auto op = std::make_unique<program::PackWeight>();
        op->y = f.ref();
        op->in = f.size(), op->out = f.size();
        op->weight = array(f.item());
        op->transposed = f.take<bool>();
        return op;
    }
    if (name == "round") {
        auto op = std::make_unique<program::Round>();
        op->x = f.ref(), op->y = f.ref(), op->size = f.size();
        return op;
    }
    if (name == "linear") {
        auto op = std::make_unique<program::Linear>();
        op->x = f.ref(), op->y = f.ref();
        op->rows = f.size(), op->in = f.size(), op->out = f.size();
        op->weight = array(f.item()), op->rounded = f.ref(), op->packed = f.ref();
        op->bias = array(f.item());
        op->activation = f.activation();
        return op;
    }
    if (name == "linear_weight") {
        auto op = std::make_unique<program::LinearWeight>();
        op->dy = f.ref(), op->x = f.ref();
        op->rows = f.size(), op->in = f.size(), op->out = f.size();
        op->dweight = array(f.item()), op->rounded = f.take<bool>();
        return op;
    }
    if (name == "linear_bias") {
        auto op = std::make_unique<program::LinearBias>();
        op->dy = f.ref();
        op->rows = f.size(), op->out = f.size();
        op->dbias = array(f.item());
        return op;
    }
    if (name == "linear_input") {
        auto op = std::make_unique<program::LinearInput>();
        op->dy = f.ref(), op->dx = f.ref();
        op->rows = f.size(), op->in = f.size(), op->out = f.size();
        op->weight = array(f.item()), op->rounded = f.ref(), op->packed = f.ref();
        return op;
    }
    if (name == "activation") {
        auto op = std::make_unique<program::Activate>();
        op->x = f.ref(), op->y = f.ref();
        op->size = f.size();
        op->activation = f.activation();
        op->alpha = f.alpha(op->activation);
        return op;
    }
    if (name == "activation_backward") {
        auto op = std::make_unique<program::ActivateBackward>();
        op->dy = f.ref(), op->x = f.ref(), op->y = f.ref(), op->dx = f.ref();
        op->size = f.size();
        op->activation = f.activation();
        op->alpha = f.alpha(op->activation);
        return op;
    }
    if (name == "batch_norm") {
        auto op = std::make_unique<program::BatchNorm>();
        op->x = f.ref(), op->y = f.ref(), op->statistics = f.ref();
        op->rows = f.size(), op->cols = f.size();
        op->gamma = array(f.item()), op->beta = array(f.item());
        op->running_mean = array(f.item()), op->running_var = array(f.item());
        op->updates = array(f.item());
        op->momentum = f.take<double>();
        op->eps = static_cast<float>(f.take<double>());
        op->unbiased = f.take<bool>();
        op->training = f.take<bool>();
        op->activation = f.activation();
        return op;
    }
    if (name == "batch_norm_backward") {
        auto op = std::make_unique<program::BatchNormBackward>();
        op->dy = f.ref(), op->x = f.ref(), op->y = f.ref(), op->statistics = f.ref(), op->dx = f.ref();
        op->rows = f.size(), op->cols = f.size();
        op->gamma = array(f.item()), op->dgamma = array(f.item()), op->dbeta = array(f.item());
        op->activation = f.activation();
        return op;
    }
    if (name == "dropout") {
        auto op = std::make_unique<program::Dropout>();
        op->x = f.ref(), op->y = f.ref();
        op->size = f.size();
        op->layer = f.take<std::size_t>();
        const auto p = f.take<double>();
        op->mask = dropout_mask(p, f.take<std::uint64_t>());
        dropouts_.push_back(op.get());
        return op;
    }
    if (name == "scale") {
        auto op = std::make_unique<program::ScaleColumns>();
        op->x = f.ref(), op->y = f.ref();
        op->rows = f.size(), op->cols = f.size();
        op->shift = array(f.item()), op->scale = array(f.item()), op->offset = array(f.item());
        return op;
    }
    if (name == "add") {
        auto op = std::make_unique<program::Add>();
        op->a = f.ref(), op->b = f.ref(), op->y = f.ref();
        op->size = f.size();
        return op;
    }
    if (name == "cross_entropy") {
        auto op = std::make_unique<program::SoftmaxLoss>();
        op->pred = f.ref(), op->dpred = f.ref(), op->target = f.ref();
        op->cols = f.size();
        op->smoothing = f.take<double>();
        const py::handle ignored = f.item();
        op->ignores = !ignored.is_none();
        op->ignored = op->ignores ? ignored.cast<std::int64_t>() : 0;
        return op;
    }
    if (name == "squared" || name == "huber" || name == "logistic") {
        auto op = std::make_unique<program::ElementwiseLoss>();
        op->point_loss = named<PointLoss>(name, {"squared", "huber", "logistic"});
        op->pred = f.ref(), op->dpred = f.ref(), op->target = f.ref();
        op->cols = f.size();
        op->factor = f.take<double>();
        op->mean = f.take<bool>();
        op->delta = static_cast<float>(f.take<double>());
        return op;
    }
    throw std::invalid_argument("program: unknown operation " + name);
}

}  // namespace fastnn::bind

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
    if (bound.update() != nullptr) update_.emplace(*bound.update());
    g_running.push_back(&bound);
}

InUse::~InUse() { std::erase(g_running, &bound_); }

BoundProgram::BoundProgram(const py::list& buffers, const py::list& ops, bool chains, std::size_t loss,
                           const std::shared_ptr<BoundUpdate>& update,
                           const std::optional<py::capsule>& kernels, bool tf32)
    : arrays_(kernels.has_value()), update_(update) {
    auto last = update == nullptr ? std::make_shared<program::Update>() : update->update;
    std::vector<program::Buffer> sizes = buffers_of(buffers);
    std::vector<std::unique_ptr<program::Op>> made = ops_of(ops);
    if (kernels.has_value()) {
        std::vector<std::size_t> places = program::fuse(made, sizes, loss);
        program_ =
            std::make_unique<program::DeviceProgram>(std::move(sizes), std::move(made), std::move(places),
                                                     loss, std::move(last), *cuda_kernels_of(*kernels), tf32);
        return;
    }
    program_ =
        std::make_unique<program::Program>(std::move(sizes), std::move(made), chains, loss, std::move(last));
}

BoundProgram::BoundProgram(const py::list& buffers, const py::list& ops, bool chains, program::Ref pred)
    : arrays_(false),
      program_(std::make_unique<program::Program>(buffers_of(buffers), ops_of(ops), chains, pred)) {}

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
        op->weight = arrays_.array(f.item());
        return op;
    }
    if (name == "pack_weight") {
        auto op = std::make_unique<program::PackWeight>();
        op->y = f.ref();
        op->in = f.size(), op->out = f.size();
        op->weight = arrays_.array(f.item());
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
        op->weight = arrays_.array(f.item()), op->rounded = f.ref(), op->packed = f.ref();
        op->bias = arrays_.array(f.item());
        op->activation = f.activation();
        return op;
    }
    if (name == "linear_weight") {
        auto op = std::make_unique<program::LinearWeight>();
        op->dy = f.ref(), op->x = f.ref();
        op->rows = f.size(), op->in = f.size(), op->out = f.size();
        op->dweight = arrays_.array(f.item()), op->rounded = f.take<bool>();
        return op;
    }
    if (name == "linear_bias") {
        auto op = std::make_unique<program::LinearBias>();
        op->dy = f.ref();
        op->rows = f.size(), op->out = f.size();
        op->dbias = arrays_.array(f.item());
        return op;
    }
    if (name == "linear_input") {
        auto op = std::make_unique<program::LinearInput>();
        op->dy = f.ref(), op->dx = f.ref();
        op->rows = f.size(), op->in = f.size(), op->out = f.size();
        op->weight = arrays_.array(f.item()), op->rounded = f.ref(), op->packed = f.ref();
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
        op->gamma = arrays_.array(f.item()), op->beta = arrays_.array(f.item());
        op->running_mean = arrays_.array(f.item()), op->running_var = arrays_.array(f.item());
        op->updates = arrays_.array(f.item());
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
        op->gamma = arrays_.array(f.item()), op->dgamma = arrays_.array(f.item()),
        op->dbeta = arrays_.array(f.item());
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
        op->shift = arrays_.array(f.item()), op->scale = arrays_.array(f.item()),
        op->offset = arrays_.array(f.item());
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

#include <algorithm>
#include <cmath>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kSgdDoc = R"(sgd_(param, grad, *, lr)
--

Gradient descent, in place: ``param -= lr * grad``.

``param`` and ``grad`` are float32 arrays of one shape, or lists of as many; a list is one native call. ``param``
must be writable and C-contiguous; no array may share memory with another.

Raises TypeError for anything but float32 arrays (a None gradient is named by its index), ValueError for shapes
that differ, overlap, arrays that cannot be updated in place, and an ``lr`` that is negative or not finite.

>>> import numpy as np
>>> from fastnn import ops
>>> p = np.array([1, 2], dtype=np.float32)
>>> ops.sgd_(p, np.array([1, -1], dtype=np.float32), lr=0.5)
>>> p
array([0.5, 2.5], dtype=float32)
)";

constexpr const char* kMomentumDoc =
    R"(momentum_(param, grad, velocity, *, lr, momentum=0.9, nesterov=False, style='buffer')
--

Gradient descent with momentum, in place on ``param`` and ``velocity`` (which starts as zeros).

``style="buffer"`` (PyTorch, ONNX): ``velocity = momentum * velocity + grad``, then
``param -= lr * (grad + momentum * velocity if nesterov else velocity)``.
``style="velocity"`` (Keras, Sutskever): ``velocity = momentum * velocity - lr * grad``, then
``param += momentum * velocity - lr * grad if nesterov else velocity``.
The two agree while ``lr`` stays the same.

Arrays and errors as in ``sgd_``; ``momentum`` is at least 0 and below 1.

>>> import numpy as np
>>> from fastnn import ops
>>> p, v = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
>>> for _ in range(2):
...     ops.momentum_(p, np.ones(1, dtype=np.float32), v, lr=0.5, momentum=0.5)
>>> v
array([1.5], dtype=float32)
)";

constexpr const char* kRmspropDoc = R"(rmsprop_(param, grad, square_avg, *, lr, rho=0.9, eps=1e-8)
--

RMSProp, in place on ``param`` and ``square_avg`` (which starts as zeros):
``square_avg = rho * square_avg + (1 - rho) * grad**2``, ``param -= lr * grad / (sqrt(square_avg) + eps)``.

``eps`` stands outside the root, as in PyTorch. Arrays and errors as in ``sgd_``; ``rho`` is at least 0 and below 1,
``eps`` at least 0.

>>> import numpy as np
>>> from fastnn import ops
>>> p, s = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
>>> ops.rmsprop_(p, np.array([2], dtype=np.float32), s, lr=0.5, rho=0.75)
>>> s
array([1.], dtype=float32)
>>> p
array([0.], dtype=float32)
)";

constexpr const char* kAdagradDoc = R"(adagrad_(param, grad, square_sum, *, lr, eps=1e-10)
--

AdaGrad, in place on ``param`` and ``square_sum`` (which starts as zeros):
``square_sum += grad**2``, ``param -= lr * grad / (sqrt(square_sum) + eps)``.

``eps`` stands outside the root, as in PyTorch; Keras and Optax put it inside and start from 0.1. Arrays and
errors as in ``sgd_``; ``eps`` is at least 0.

>>> import numpy as np
>>> from fastnn import ops
>>> p, s = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
>>> for g in (3, 4):
...     ops.adagrad_(p, np.array([g], dtype=np.float32), s, lr=0.5)
>>> s
array([25.], dtype=float32)
>>> p.round(6)
array([0.1], dtype=float32)
)";

constexpr const char* kAdamDoc =
    R"(adam_(param, grad, m, v, *, step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False)
--

Adam, in place on ``param``, ``m`` and ``v`` (which start as zeros); ``step`` counts the updates from 1:
``m = beta1 * m + (1 - beta1) * grad``, ``v = beta2 * v + (1 - beta2) * grad**2``,
``param -= lr * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)``.

``eps`` stands outside the root and after the bias correction, as in PyTorch. ``weight_decay`` adds
``weight_decay * param`` to the gradient or, with ``decoupled=True`` (AdamW), first does
``param *= 1 - lr * weight_decay``.

Arrays and errors as in ``sgd_``; ``beta1`` and ``beta2`` are at least 0 and below 1, ``eps`` and ``weight_decay`` at
least 0, ``step`` is an int from 1.

>>> import numpy as np
>>> from fastnn import ops
>>> p, m, v = (np.zeros(2, dtype=np.float32) for _ in range(3))
>>> ops.adam_(p, np.array([3, -4], dtype=np.float32), m, v, step=1, lr=0.5)
>>> p
array([-0.5,  0.5], dtype=float32)
)";

// The arrays of one update: each argument is one array, or a sequence of as many as the first holds.
class Group {
 public:
    // The first `arguments` parameters of the call: param, grad, then the slots.
    Group(Call& call, int arguments) : call_(call), arguments_(arguments) {
        many_ = is_sequence(call[0]);
        for (int i = 0; i < arguments; ++i) read_items(i);
        tensors_.reserve(static_cast<std::size_t>(count_));
        regions_.reserve(static_cast<std::size_t>(count_ * arguments));
        for (Py_ssize_t i = 0; i < count_; ++i) add_tensor(i);
        check_all_apart();
    }

    void update(UpdateArgs args) const {
        args.tensors = tensors_.data();
        args.count = static_cast<Index>(tensors_.size());
        args.chunks = chunks_;
        Tasks tasks;
        tasks.add(kernels().update, args);
        tasks.run_to_the_end(stream_ns((2.0 * arguments_ - 1.0) * static_cast<double>(elements_)));
    }

 private:
    static constexpr int kMaxArguments = 4;

    static bool is_sequence(const Value& v) { return PyList_Check(v.object) || PyTuple_Check(v.object); }

    void read_items(int argument) {
        const Value value = call_[argument];
        if (is_sequence(value) != many_) {
            const char* wanted = many_ ? "must be a list of arrays" : "must be one array";
            call_.type_error(value, std::string(wanted) + ", as 'param' is, got " + type_name(value.object));
        }
        if (!many_) return;
        PyObject* items = fixed_items(call_, value);
        const Py_ssize_t count = PyTuple_GET_SIZE(items);
        if (argument == 0) count_ = count;
        if (count != count_) {
            call_.value_error(value, "must hold " + std::to_string(count_) +
                                         " arrays, as 'param' does, got " + std::to_string(count));
        }
        items_[argument] = items;
    }

    Value item(int argument, Py_ssize_t i) const {
        const Value value = call_[argument];
        return many_ ? Value{PyTuple_GET_ITEM(items_[argument], i), value.name, i} : value;
    }

    float* in_place(const Value& value, Shape& shape) {
        const Output array = update_flat(call_, value, shape);  // the caller or items_ keep it alive
        regions_.push_back(array.region);
        return array.data;
    }

    void add_tensor(Py_ssize_t i) {
        Shape shape;
        UpdateTensor t{};
        t.param = in_place(item(0, i), shape);

        const Value gradient = item(1, i);
        if (!gradient.given()) {
            call_.type_error(gradient, "is None: every parameter needs a gradient; call backward first");
        }
        const Input grad = read_flat(call_, gradient);
        require_shape(call_, gradient, grad.shape, shape);
        regions_.push_back(grad.region);
        t.grad = grad.data;

        for (int slot = 2; slot < arguments_; ++slot) {
            const Value value = item(slot, i);
            Shape slot_shape;
            (slot == 2 ? t.slot0 : t.slot1) = in_place(value, slot_shape);
            require_shape(call_, value, slot_shape, shape);
        }
        t.n = grad.cols;
        t.first_chunk = chunks_;
        chunks_ += stream_chunks(t.n);
        elements_ += t.n;
        tensors_.push_back(t);
    }

    // Sorted by address, only neighbours can meet.
    void check_all_apart() {
        std::sort(regions_.begin(), regions_.end(),
                  [](const Region& a, const Region& b) { return a.lo < b.lo; });
        for (std::size_t i = 0; i < regions_.size(); ++i) {
            for (std::size_t j = i + 1; j < regions_.size() && regions_[j].lo < regions_[i].hi; ++j) {
                check_apart(call_, regions_[i], regions_[j]);
            }
        }
    }

    Call& call_;
    int arguments_;
    bool many_ = false;
    Py_ssize_t count_ = 1;
    PyObject* items_[kMaxArguments];  // tuples kept by the call; set only if many_
    Index chunks_ = 0;
    Index elements_ = 0;
    std::vector<UpdateTensor> tensors_;
    std::vector<Region> regions_;
};

PyObject* sgd_(Call& call) {
    enum { kParam, kGrad, kLr };
    UpdateArgs args{};
    args.rule = Rule::sgd;
    args.lr = static_cast<float>(non_negative(call, call[kLr]));
    Group(call, 2).update(args);
    Py_RETURN_NONE;
}

PyObject* momentum_(Call& call) {
    enum { kParam, kGrad, kVelocity, kLr, kMomentum, kNesterov, kStyle };
    UpdateArgs args{};
    args.rule = Rule::momentum;
    args.lr = static_cast<float>(non_negative(call, call[kLr]));
    args.decay0 = static_cast<float>(fraction(call, call[kMomentum]));
    args.nesterov = flag(call, call[kNesterov]);
    const bool velocity = choice(call, call[kStyle], {"buffer", "velocity"}) == 1;
    args.style = velocity ? MomentumStyle::velocity : MomentumStyle::buffer;
    Group(call, 3).update(args);
    Py_RETURN_NONE;
}

PyObject* rmsprop_(Call& call) {
    enum { kParam, kGrad, kSquareAvg, kLr, kRho, kEps };
    const double rho = fraction(call, call[kRho]);
    UpdateArgs args{};
    args.rule = Rule::rmsprop;
    args.lr = static_cast<float>(non_negative(call, call[kLr]));
    args.decay0 = static_cast<float>(rho);
    args.one_minus0 = static_cast<float>(1.0 - rho);
    args.eps = static_cast<float>(non_negative(call, call[kEps]));
    Group(call, 3).update(args);
    Py_RETURN_NONE;
}

PyObject* adagrad_(Call& call) {
    enum { kParam, kGrad, kSquareSum, kLr, kEps };
    UpdateArgs args{};
    args.rule = Rule::adagrad;
    args.lr = static_cast<float>(non_negative(call, call[kLr]));
    args.eps = static_cast<float>(non_negative(call, call[kEps]));
    Group(call, 3).update(args);
    Py_RETURN_NONE;
}

PyObject* adam_(Call& call) {
    enum { kParam, kGrad, kM, kV, kStep, kLr, kBeta1, kBeta2, kEps, kWeightDecay, kDecoupled };
    const auto step = static_cast<double>(positive_integer(call, call[kStep]));
    const double lr = non_negative(call, call[kLr]);
    const double beta1 = fraction(call, call[kBeta1]);
    const double beta2 = fraction(call, call[kBeta2]);
    const double weight_decay = non_negative(call, call[kWeightDecay]);
    UpdateArgs args{};
    args.rule = Rule::adam;
    args.decoupled = flag(call, call[kDecoupled]);
    args.lr = static_cast<float>(lr / (1.0 - std::pow(beta1, step)));
    args.decay0 = static_cast<float>(beta1);
    args.decay1 = static_cast<float>(beta2);
    args.one_minus0 = static_cast<float>(1.0 - beta1);
    args.one_minus1 = static_cast<float>(1.0 - beta2);
    args.eps = static_cast<float>(non_negative(call, call[kEps]));
    args.root_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, step)));
    args.weight_decay = static_cast<float>(args.decoupled ? 1.0 - lr * weight_decay : weight_decay);
    Group(call, 4).update(args);
    Py_RETURN_NONE;
}

}  // namespace

void bind_updates(py::module_& m) {
    add_function<sgd_>(m, kSgdDoc);
    add_function<momentum_>(m, kMomentumDoc);
    add_function<rmsprop_>(m, kRmspropDoc);
    add_function<adagrad_>(m, kAdagradDoc);
    add_function<adam_>(m, kAdamDoc);
}

}  // namespace fastnn::bind

#include <atomic>

#include "bind/bind.h"
#include "bind/scalars.h"
#include "bind/updates.h"

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

// The first `arguments` parameters of the call: param, grad, then the slots.
void update_arrays(Call& call, int arguments, const UpdateOptions& options) {
    Value values[kRoles] = {};
    for (int i = 0; i < arguments; ++i) values[i] = call[i];
    UpdateArrays arrays(call);
    arrays.add(values, options);
    static std::atomic<std::uint64_t> calls{0};
    arrays.run(calls.fetch_add(1, std::memory_order_relaxed));
}

PyObject* sgd_(Call& call) {
    enum { kParam, kGrad, kLr };
    update_arrays(call, 2, sgd_options(non_negative(call, call[kLr])));
    Py_RETURN_NONE;
}

PyObject* momentum_(Call& call) {
    enum { kParam, kGrad, kVelocity, kLr, kMomentum, kNesterov, kStyle };
    const double lr = non_negative(call, call[kLr]);
    const double momentum = fraction(call, call[kMomentum]);
    const bool nesterov = flag(call, call[kNesterov]);
    const bool velocity = choice(call, call[kStyle], {"buffer", "velocity"}) == 1;
    update_arrays(call, 3, momentum_options(lr, momentum, 1.0, nesterov, velocity));
    Py_RETURN_NONE;
}

PyObject* rmsprop_(Call& call) {
    enum { kParam, kGrad, kSquareAvg, kLr, kRho, kEps };
    const double rho = fraction(call, call[kRho]);
    const double lr = non_negative(call, call[kLr]);
    const double eps = non_negative(call, call[kEps]);
    update_arrays(call, 3, rmsprop_options(lr, rho, eps, EpsMode::outside, false, false, 0.0));
    Py_RETURN_NONE;
}

PyObject* adagrad_(Call& call) {
    enum { kParam, kGrad, kSquareSum, kLr, kEps };
    const double lr = non_negative(call, call[kLr]);
    update_arrays(call, 3, adagrad_options(lr, non_negative(call, call[kEps]), EpsMode::outside));
    Py_RETURN_NONE;
}

PyObject* adam_(Call& call) {
    enum { kParam, kGrad, kM, kV, kStep, kLr, kBeta1, kBeta2, kEps, kWeightDecay, kDecoupled };
    const auto step = static_cast<double>(positive_integer(call, call[kStep]));
    const double lr = non_negative(call, call[kLr]);
    const double beta1 = fraction(call, call[kBeta1]);
    const double beta2 = fraction(call, call[kBeta2]);
    const double weight_decay = non_negative(call, call[kWeightDecay]);
    const bool decoupled = flag(call, call[kDecoupled]);
    const double eps = non_negative(call, call[kEps]);
    UpdateOptions options = adam_options(step, lr, beta1, beta2, eps, EpsMode::outside, false);
    set_decay(options, lr, weight_decay, 0.0, decoupled, false);
    update_arrays(call, 4, options);
    Py_RETURN_NONE;
}

}  // namespace

void bind_updates(py::module_& m) {
    add_function<sgd_>(m, kSgdDoc, Places::device_too);
    add_function<momentum_>(m, kMomentumDoc, Places::device_too);
    add_function<rmsprop_>(m, kRmspropDoc, Places::device_too);
    add_function<adagrad_>(m, kAdagradDoc, Places::device_too);
    add_function<adam_>(m, kAdamDoc, Places::device_too);
}

}  // namespace fastnn::bind

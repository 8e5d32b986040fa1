#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kActivationDoc = R"(activation(x, kind, *, alpha=None, out=None)
--

Elementwise activation ``y = f(x)``, as in PyTorch:

================  ======================================================================
``relu``          ``max(x, 0)``
``leaky_relu``    ``x`` where ``x > 0``, else ``alpha * x``; alpha is 0.01 by default
``sigmoid``       ``1 / (1 + exp(-x))``
``tanh``          ``tanh(x)``
``gelu``          ``x * Phi(x)``, ``Phi(x) = (1 + erf(x / sqrt(2))) / 2``
``gelu_tanh``     ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``
``silu``          ``x * sigmoid(x)``
``elu``           ``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``; alpha is 1 by default
``selu``          1.0507 times elu with alpha 1.67326, both to float32 precision
``softplus``      ``log(1 + exp(x))``
================  ======================================================================

NaN stays NaN, and an infinity gives the limit. Errors are at most 4 ULP; docs/numerics.md says where not.
``alpha``, at least 0, is for leaky_relu and elu only. Any number of dimensions; ``out`` has the shape of ``x``, is
C-contiguous, and may be exactly ``x``.
Returns ``out``, or a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for an unknown kind, an alpha that the kind does not
take, a wrong shape, partial overlap or an ``out`` that cannot be written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([-1, 0, 2], dtype=np.float32)
>>> ops.activation(x, "relu")
array([0., 0., 2.], dtype=float32)
>>> ops.activation(x, "leaky_relu", alpha=0.5)
array([-0.5,  0. ,  2. ], dtype=float32)
)";

constexpr const char* kActivationBackwardDoc =
    R"(activation_backward(dy, x, kind, *, alpha=None, y=None, out=None)
--

Gradient through an activation: ``dx = dy * f'(x)``, for the kinds and alphas of ``activation``.

Derivatives at a kink are those of the negative side, as in PyTorch: 0 at 0 for relu, alpha for leaky_relu and elu.
For relu, leaky_relu, sigmoid, tanh, elu and selu the derivative is formed from ``y = activation(x, kind)``, such as
``y * (1 - y)`` for sigmoid: passing ``y`` saves computing it again, and the bits are the same with and without.
The other kinds need no ``y``. ``x``, ``dy`` and ``y`` have the same shape, of any number of dimensions. ``out`` is
C-contiguous and may be exactly ``dy``.
Returns ``out``, or a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for an unknown kind, an alpha that the kind does not
take, a wrong shape, partial overlap or an ``out`` that cannot be written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> x, dy = np.array([-1, 0, 2], dtype=np.float32), np.ones(3, dtype=np.float32)
>>> ops.activation_backward(dy, x, "relu")
array([0., 0., 1.], dtype=float32)
>>> y = ops.activation(x, "tanh")
>>> ops.activation_backward(dy, x, "tanh", y=y).round(3)
array([0.42 , 1.   , 0.071], dtype=float32)
)";

constexpr const char* kAddDoc = R"(add(a, b)
--

``a + b``, a new float32 array; both have one shape. It is the sum of ``nn.Residual``.
)";

// The alpha of the kinds that have one.
float alpha_of(const Call& call, const Value& value, Activation kind) {
    if (!value.given()) return default_alpha(kind);
    if (kind != Activation::leaky_relu && kind != Activation::elu) {
        call.value_error(value, "is for 'leaky_relu' and 'elu' only; leave it None");
    }
    return static_cast<float>(non_negative(call, value));
}

// Work per element in floats moved: the formulas with an exponential take several times as long as a copy.
double cost_ns(Activation kind, Index n, double moved) {
    const bool plain = kind == Activation::relu || kind == Activation::leaky_relu;
    return stream_ns((plain ? moved : moved + 2.0) * static_cast<double>(n));
}

// In place means: exactly the same elements, not merely the same memory.
void check_elementwise(const Call& call, const Output& out, const Input& x) {
    if (out.data != x.data) check_apart(call, out.region, x.region);
}

PyObject* activation(Call& call) {
    enum { kX, kKind, kAlpha, kOut };
    const Activation kind = activation_kind(call, call[kKind]);
    const float alpha = alpha_of(call, call[kAlpha], kind);
    const Input x = read_flat(call, call[kX]);
    Output out = write_flat(call, call[kOut], x.shape);
    check_elementwise(call, out, x);
    const ActivationArgs args{.x = x.data, .y = out.data, .n = out.cols, .kind = kind, .alpha = alpha};
    if (args.n > 0) {
        Tasks tasks(call);
        tasks.add(kernels().activation, args);
        tasks.take_turns(2.0 * static_cast<double>(args.n));
        tasks.run(cost_ns(kind, args.n, 2.0));
    }
    return out.release();
}

PyObject* activation_backward(Call& call) {
    enum { kDy, kX, kKind, kAlpha, kY, kOut };
    const Activation kind = activation_kind(call, call[kKind]);
    const float alpha = alpha_of(call, call[kAlpha], kind);
    const Input dy = read_flat(call, call[kDy]);
    const Input x = read_flat(call, call[kX]);
    require_shape(call, call[kX], x.shape, dy.shape);
    Input y;
    if (call[kY].given()) {
        y = read_flat(call, call[kY]);
        require_shape(call, call[kY], y.shape, dy.shape);
    }
    Output out = write_flat(call, call[kOut], dy.shape);
    check_elementwise(call, out, dy);
    check_apart_from(call, out, x, y);
    const ActivationBackwardArgs args{
        .dy = dy.data, .x = x.data, .y = y.data, .dx = out.data, .n = out.cols, .kind = kind, .alpha = alpha};
    if (args.n > 0) {
        Tasks tasks(call);
        tasks.add(kernels().activation_backward, args);
        tasks.take_turns(3.0 * static_cast<double>(args.n));
        tasks.run(cost_ns(kind, args.n, 3.0));
    }
    return out.release();
}

PyObject* add(Call& call) {
    const Input a = read_flat(call, call[0]);
    const Input b = read_flat(call, call[1]);
    require_shape(call, call[1], b.shape, a.shape);
    Output out = write_flat(call, {Py_None, "out"}, a.shape);
    const AddArgs args{.a = a.data, .b = b.data, .y = out.data, .n = out.cols};
    if (args.n > 0) {
        Tasks tasks(call);
        tasks.add(kernels().add, args);
        tasks.take_turns(3.0 * static_cast<double>(args.n));
        tasks.run(stream_ns(3.0 * static_cast<double>(args.n)));
    }
    return out.release();
}

}  // namespace

void bind_activation(py::module_& m) {
    add_function<activation>(m, kActivationDoc, Places::device_too);
    add_function<activation_backward>(m, kActivationBackwardDoc, Places::device_too);
    add_function<add>(m, kAddDoc, Places::device_too);
}

}  // namespace fastnn::bind

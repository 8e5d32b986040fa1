#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kActivationDoc = R"(activation(x, kind, *, out=None)
--

Elementwise activation. ``kind="relu"``: ``max(x, 0)``; NaN stays NaN, as in NumPy and PyTorch.

Any number of dimensions. ``out`` has the shape of ``x``, is C-contiguous, and may be exactly ``x``.
Returns ``out``, or a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for an unknown kind, a wrong shape, partial overlap
or an ``out`` that cannot be written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> ops.activation(np.array([-1, 0, 2], dtype=np.float32), "relu")
array([0., 0., 2.], dtype=float32)
)";

constexpr const char* kActivationBackwardDoc = R"(activation_backward(dy, x, kind, *, y=None, out=None)
--

Gradient through an activation: ``dx = dy * f'(x)``. ``kind="relu"``: ``f'`` is 1 for ``x > 0``, else 0 (also at 0).

``x`` and ``dy`` have the same shape, of any number of dimensions. ``y``, the activation's result, is checked and
then not needed for "relu". ``out`` is C-contiguous and may be exactly ``dy``.
Returns ``out``, or a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for an unknown kind, a wrong shape, partial overlap
or an ``out`` that cannot be written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([-1, 0, 2], dtype=np.float32)
>>> ops.activation_backward(np.ones(3, dtype=np.float32), x, "relu")
array([0., 0., 1.], dtype=float32)
)";

// In place means: exactly the same elements, not merely the same memory.
void check_elementwise(const Call& call, const Output& out, const Input& x) {
    if (out.data != x.data) check_apart(call, out.region, x.region);
}

PyObject* activation(Call& call) {
    enum { kX, kKind, kOut };
    const Activation kind = activation_kind(call, call[kKind]);
    const Input x = read_flat(call, call[kX]);
    Output out = write_flat(call, call[kOut], x.shape);
    check_elementwise(call, out, x);
    const ActivationArgs args{.x = x.data, .y = out.data, .n = out.cols, .kind = kind};
    if (args.n > 0) {
        Tasks tasks;
        tasks.add(kernels().activation, args);
        tasks.run(stream_ns(2.0 * static_cast<double>(args.n)));
    }
    return out.release();
}

PyObject* activation_backward(Call& call) {
    enum { kDy, kX, kKind, kY, kOut };
    const Activation kind = activation_kind(call, call[kKind]);
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
        .dy = dy.data, .x = x.data, .dx = out.data, .n = out.cols, .kind = kind};
    if (args.n > 0) {
        Tasks tasks;
        tasks.add(kernels().activation_backward, args);
        tasks.run(stream_ns(3.0 * static_cast<double>(args.n)));
    }
    return out.release();
}

}  // namespace

void bind_activation(py::module_& m) {
    add_function<activation>(m, kActivationDoc);
    add_function<activation_backward>(m, kActivationBackwardDoc);
}

}  // namespace fastnn::bind

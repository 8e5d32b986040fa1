#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"
#include "core/sums.h"

namespace fastnn::bind {
namespace {

constexpr const char* kBatchNormDoc =
    R"(batch_norm(x, gamma, beta, running_mean=None, running_var=None, *, training=True, momentum=0.1, eps=1e-5, activation=None, out=None, unbiased=True)
--

Batch normalization: ``y = activation((x - mean) * rstd * gamma + beta)``, ``rstd = 1 / sqrt(var + eps)``.

In training ``mean`` and ``var`` (biased) are those of ``x`` over all axes but the last, and the running
statistics, if given, move in place: ``running = (1 - momentum) * running + momentum * batch``, with the unbiased
variance (``unbiased=False``: the biased one). ``momentum`` is the weight of the new batch, as in PyTorch. In
evaluation the running statistics are needed and used, and nothing but ``y`` is written.

Shapes: ``x`` and ``out`` (..., c); ``gamma, beta, running_mean, running_var`` (c,). ``activation`` is None or a
kind of ``ops.activation``, with its default alpha. ``out`` may share no memory with the inputs.

Returns ``(y, mean, rstd)``; ``mean`` and ``rstd`` (c,) are what ``batch_norm_backward`` needs.

Raises TypeError for anything but float32 arrays, ValueError for shapes that do not fit, training with fewer than
two rows (before anything is written), evaluation without running statistics, overlap, and outputs that cannot be
written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([[1, 2], [3, 6]], dtype=np.float32)
>>> y, mean, rstd = ops.batch_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32), eps=0.0)
>>> y
array([[-1., -1.],
       [ 1.,  1.]], dtype=float32)
>>> mean
array([2., 4.], dtype=float32)
)";

constexpr const char* kDebiasedWeightDoc = R"(debiased_weight(momentum, updates)
--

What the batch after ``updates`` others weighs in debiased running statistics, for ``batch_norm(momentum=)``.

``min(1, momentum / (1 - (1 - momentum)**(updates + 1)))``, with the bits of a training program.

>>> from fastnn import _core
>>> _core.debiased_weight(0.5, 0), _core.debiased_weight(0.5, 1)
(1.0, 0.6666666666666666)
)";

constexpr const char* kBatchNormBackwardDoc =
    R"(batch_norm_backward(dy, x, gamma, mean, rstd, *, activation=None, y=None, out=None, accumulate=False)
--

Gradients of batch normalization in training, with ``xhat = (x - mean) * rstd`` and n rows:
``dbeta = sum(dy)``, ``dgamma = sum(dy * xhat)``, ``dx = gamma * rstd * (dy - dbeta / n - xhat * dgamma / n)``.

With an ``activation``, ``dy`` is first multiplied by its derivative, taken from the forward result ``y``, which is
then needed: relu, leaky_relu, sigmoid, tanh, elu or selu. The derivative of the others is no function of y: pass
``activation_backward(dy, pre, kind)`` as ``dy``, where ``pre`` is the result without activation.

Shapes: ``dy, x, y, dx`` (..., c); ``gamma, mean, rstd, dgamma, dbeta`` (c,). ``out=(dx, dgamma, dbeta)`` gives
memory for each of the three, None where a new array is wanted. ``accumulate=True`` adds into the given ``dgamma``
and ``dbeta``; ``dx`` is always overwritten.

Returns ``(dx, dgamma, dbeta)``.

Raises TypeError for anything but float32 arrays, ValueError for shapes that do not fit, a missing ``y``, an
activation that cannot be fused, overlap, outputs that cannot be written in place, and ``accumulate`` without memory to add into.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([[1, 2], [3, 6]], dtype=np.float32)
>>> gamma = np.ones(2, dtype=np.float32)
>>> y, mean, rstd = ops.batch_norm(x, gamma, np.zeros(2, np.float32))
>>> dx, dgamma, dbeta = ops.batch_norm_backward(np.ones((2, 2), np.float32), x, gamma, mean, rstd)
>>> dbeta
array([2., 2.], dtype=float32)
)";

struct Running {
    float* mean = nullptr;
    float* var = nullptr;
};

// In training the running statistics are outputs, in evaluation inputs.
Running running_statistics(Call& call, const Value& mean, const Value& var, bool training,
                           const Shape& columns, const Output& y, const Input& x, const Input& gamma,
                           const Input& beta) {
    if (mean.given() != var.given()) {
        call.value_error(mean.given() ? var : mean, "is None; pass both running statistics or neither");
    }
    if (!training) {
        if (!mean.given()) call.value_error(mean, "is None, but training=False needs running statistics");
        const Input m = read_vector(call, mean, columns.dims[0]);
        const Input v = read_vector(call, var, columns.dims[0]);
        check_apart_from(call, y, m, v);
        return {const_cast<float*>(m.data), const_cast<float*>(v.data)};  // evaluation only reads them
    }
    if (!mean.given()) return {};
    const Output m = write_rows(call, mean, columns);
    const Output v = write_rows(call, var, columns);
    check_apart_from(call, m, x, gamma, beta, y, v);
    check_apart_from(call, v, x, gamma, beta, y);
    return {m.data, v.data};
}

PyObject* batch_norm(Call& call) {
    enum {
        kX,
        kGamma,
        kBeta,
        kRunningMean,
        kRunningVar,
        kTraining,
        kMomentum,
        kEps,
        kActivation,
        kOut,
        kUnbiased
    };
    const bool training = flag(call, call[kTraining]);
    BatchNormArgs args{};
    args.training = training;
    args.biased = !flag(call, call[kUnbiased]);
    args.momentum = in_unit_range(call, call[kMomentum]);
    args.eps = static_cast<float>(non_negative(call, call[kEps]));
    args.activation = optional_activation(call, call[kActivation]);

    const Input x = read_rows(call, call[kX]);
    if (training && x.rows < 2) {
        call.value_error(call[kX], "must have at least two rows in training, got shape " + text_of(x.shape) +
                                       "; use training=False, or a larger batch");
    }
    const Input gamma = read_vector(call, call[kGamma], x.cols);
    const Input beta = read_vector(call, call[kBeta], x.cols);
    const Shape columns{x.cols};
    Output y = write_rows(call, call[kOut], x.shape);
    check_apart_from(call, y, x, gamma, beta);
    const Running running =
        running_statistics(call, call[kRunningMean], call[kRunningVar], training, columns, y, x, gamma, beta);
    const Value fresh{Py_None, "mean"};
    Output mean = write_rows(call, fresh, columns);
    Output rstd = write_rows(call, fresh, columns);
    py::object result = results({&y, &mean, &rstd});

    args.x = x.data;
    args.x_row = x.row;
    args.y = y.data;
    args.y_row = y.row;
    args.rows = x.rows;
    args.cols = x.cols;
    args.gamma = gamma.data;
    args.beta = beta.data;
    args.mean = mean.data;
    args.rstd = rstd.data;
    args.running_mean = running.mean;
    args.running_var = running.var;
    if (x.cols > 0) {
        if (training) args.partials = workspace_of(call, 3 * column_partials(x.rows, x.cols));
        Tasks tasks(call);
        tasks.add(kernels().batch_norm, args);
        tasks.return_in_last(2.0 * static_cast<double>(args.rows) * static_cast<double>(args.cols));
        tasks.run(
            stream_ns((training ? 3.0 : 2.0) * static_cast<double>(x.rows) * static_cast<double>(x.cols)));
    }
    return result.release().ptr();
}

PyObject* debiased_weight_of(Call& call) {
    return PyFloat_FromDouble(debiased_weight(in_unit_range(call, call[0]), number(call, call[1])));
}

PyObject* batch_norm_backward(Call& call) {
    enum { kDy, kX, kGamma, kMean, kRstd, kActivation, kY, kOut, kAccumulate };
    BatchNormBackwardArgs args{};
    args.activation = optional_activation(call, call[kActivation]);
    if (!derivative_of_result(args.activation)) {
        call.value_error(
            call[kActivation],
            "has a derivative that is no function of y, so it cannot be fused; apply the "
            "activation separately: pass ops.activation_backward(dy, pre, kind) as dy, where pre "
            "is the result of batch_norm without activation");
    }
    args.accumulate = flag(call, call[kAccumulate]);
    const OutItems outs(call, call[kOut], 3);
    for (const int i : {1, 2}) {
        if (args.accumulate && !outs[i].given()) {
            call.value_error(outs[i],
                             std::string("is None, but accumulate=True adds into it; pass an array for ") +
                                 (i == 1 ? "dgamma" : "dbeta"));
        }
    }
    const Input x = read_rows(call, call[kX]);
    const Input dy = read_rows(call, call[kDy]);
    require_shape(call, call[kDy], dy.shape, x.shape);
    Input y;
    if (call[kY].given()) {
        y = read_rows(call, call[kY]);
        require_shape(call, call[kY], y.shape, x.shape);
    } else if (args.activation != Activation::none) {
        call.value_error(call[kY], "is None, but the activation needs the forward result; pass y=");
    }
    const Input gamma = read_vector(call, call[kGamma], x.cols);
    const Input mean = read_vector(call, call[kMean], x.cols);
    const Input rstd = read_vector(call, call[kRstd], x.cols);
    Output dx = write_rows(call, outs[0], x.shape);
    Output dgamma = write_rows(call, outs[1], Shape{x.cols});
    Output dbeta = write_rows(call, outs[2], Shape{x.cols});
    check_apart_from(call, dx, dy, x, y, gamma, mean, rstd, dgamma, dbeta);
    check_apart_from(call, dgamma, dy, x, y, gamma, mean, rstd, dbeta);
    check_apart_from(call, dbeta, dy, x, y, gamma, mean, rstd);
    py::object result = results({&dx, &dgamma, &dbeta});

    args.dy = dy.data;
    args.dy_row = dy.row;
    args.x = x.data;
    args.x_row = x.row;
    args.y = y.data;
    args.y_row = y.row;
    args.dx = dx.data;
    args.dx_row = dx.row;
    args.rows = x.rows;
    args.cols = x.cols;
    args.gamma = gamma.data;
    args.mean = mean.data;
    args.rstd = rstd.data;
    args.dgamma = dgamma.data;
    args.dbeta = dbeta.data;
    if (x.cols > 0) {
        const Index sums = (2 * x.cols + 15) / 16 * 16;  // the partial sums after them keep their alignment
        args.sums = workspace_of(call, sums + 2 * column_partials(x.rows, x.cols));
        args.partials = args.sums + sums;
        Tasks tasks(call);
        tasks.add(kernels().batch_norm_backward, args);
        tasks.return_in_last(3.0 * static_cast<double>(args.rows) * static_cast<double>(args.cols));
        tasks.run(stream_ns(5.0 * static_cast<double>(x.rows) * static_cast<double>(x.cols)));
    }
    return result.release().ptr();
}

}  // namespace

void bind_batchnorm(py::module_& m) {
    add_function<batch_norm>(m, kBatchNormDoc, Places::device_too);
    add_function<debiased_weight_of>(m, kDebiasedWeightDoc);
    add_function<batch_norm_backward>(m, kBatchNormBackwardDoc, Places::device_too);
}

}  // namespace fastnn::bind

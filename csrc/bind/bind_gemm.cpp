#include <cmath>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kGemmDoc =
    R"(gemm(a, b, *, out=None, bias=None, activation=None, trans_a=False, trans_b=False, alpha=1.0, beta=0.0, out_dtype=None, tf32=False)
--

Matrix product: ``activation(alpha * op(a) @ op(b) + beta * out + bias)``.

``op(x)`` is ``x``, or ``x.T`` where ``trans_a`` / ``trans_b`` is true. As in BLAS, ``beta=0`` overwrites ``out``
whatever it holds, NaN included.

Shapes: ``op(a)`` (m, k), ``op(b)`` (k, n), ``bias`` (n,), ``out`` (m, n). With ``k == 0`` the product is zero.
``a`` and ``b`` may have any strides; ``out`` needs contiguous columns and may share no memory with the inputs.
``activation`` is None or a kind of ``ops.activation``, with its default alpha; ``out_dtype`` None or ``np.float32``; ``tf32`` exists on CUDA only.

Returns ``out``, or a new float32 array. The same bits for any number of threads and any ISA.

Raises TypeError for anything but float32 arrays, ValueError for shapes that do not fit, overlap, an ``out`` that
cannot be written in place, ``beta != 0`` without ``out``, and ``tf32=True``.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([[1, 2], [3, 4]], dtype=np.float32)
>>> w = np.array([[1, 0], [0, -1]], dtype=np.float32)
>>> ops.gemm(x, w, bias=np.array([0.5, 0], dtype=np.float32), activation="relu")
array([[1.5, 0. ],
       [3.5, 0. ]], dtype=float32)
)";

constexpr const char* kLinearBackwardDoc =
    R"(linear_backward(dy, x, w, *, need_dx=True, need_db=True, out=None, accumulate=False)
--

Gradients of ``y = x @ w + b``: ``dx = dy @ w.T``, ``dw = x.T @ dy``, ``db = dy.sum(axis=0)``.

Shapes: ``dy`` (n, out), ``x`` (n, in), ``w`` (in, out); ``dx`` (n, in), ``dw`` (in, out), ``db`` (out,).
``out=(dx, dw, db)`` gives memory for each of the three, None where a new array is wanted. ``accumulate=True``
adds into the given ``dw`` and ``db``; ``dx`` is always overwritten. The outputs may share no memory with the
inputs or with one another.

Returns ``(dx, dw, db)``, with None in place of what ``need_dx=False`` or ``need_db=False`` leaves out.

Raises TypeError for anything but float32 arrays, ValueError for shapes that do not fit, overlap, outputs that
cannot be written in place, and ``accumulate`` without memory to add into.

>>> import numpy as np
>>> from fastnn import ops
>>> x = np.array([[1, 2]], dtype=np.float32)
>>> w = np.eye(2, dtype=np.float32)
>>> dx, dw, db = ops.linear_backward(np.array([[3, 5]], dtype=np.float32), x, w)
>>> dw
array([[ 3.,  5.],
       [ 6., 10.]], dtype=float32)
)";

void check_out_dtype(const Call& call, const Value& value) {
    if (!value.given()) return;
    PyObject* converted = nullptr;
    const auto& api = py::detail::npy_api::get();
    if (api.PyArray_DescrConverter_(value.object, &converted) != 1) {
        PyErr_Clear();
        call.type_error(value, "must be None or np.float32, got " + repr_of(value.object));
    }
    const auto dtype = py::reinterpret_steal<py::dtype>(converted);
    if (dtype.num() != py::detail::npy_api::NPY_FLOAT_ || dtype.byteorder() != '=') {
        call.type_error(value, "must be None or np.float32, got " + repr_of(value.object));
    }
}

// op(x): rows and columns change places.
void transpose(Input& x) {
    std::swap(x.rows, x.cols);
    std::swap(x.row, x.col);
}

GemmArgs gemm_args(const Input& a, const Input& b, const Output& c, float beta) {
    GemmArgs g{};
    g.a = a.data;
    g.a_row = a.row;
    g.a_col = a.col;
    g.b = b.data;
    g.b_row = b.row;
    g.b_col = b.col;
    g.c = c.data;
    g.c_row = c.row;
    g.m = a.rows;
    g.n = b.cols;
    g.k = a.cols;
    g.k_end = a.cols;
    g.alpha = 1;
    g.beta = beta;
    return g;
}

PyObject* gemm(Call& call) {
    enum { kA, kB, kOut, kBias, kActivation, kTransA, kTransB, kAlpha, kBeta, kOutDtype, kTf32 };
    const Activation activation = optional_activation(call, call[kActivation]);
    const bool trans_a = flag(call, call[kTransA]);
    const bool trans_b = flag(call, call[kTransB]);
    const auto alpha = static_cast<float>(number(call, call[kAlpha]));
    const auto beta = static_cast<float>(number(call, call[kBeta]));
    check_out_dtype(call, call[kOutDtype]);
    if (flag(call, call[kTf32])) call.value_error(call[kTf32], "works on CUDA arrays only; leave it False");
    if (beta != 0 && !call[kOut].given()) {
        call.value_error(call[kBeta], "is not 0, which needs 'out' to read from; pass out=");
    }

    Input a = read_matrix(call, call[kA], Layout::strided);
    Input b = read_matrix(call, call[kB], Layout::strided);
    if (trans_a) transpose(a);
    if (trans_b) transpose(b);
    if (a.cols != b.rows) {
        call.value_error("the inner dimensions differ: 'a' has shape " + text_of(a.shape) +
                         " and 'b' has shape " + text_of(b.shape) + ", so " + std::to_string(a.cols) +
                         " columns of op(a) meet " + std::to_string(b.rows) +
                         " rows of op(b); check trans_a and trans_b");
    }
    Input bias;
    if (call[kBias].given()) bias = read_vector(call, call[kBias], b.cols);
    Output out = write_rows(call, call[kOut], Shape{a.rows, b.cols});
    check_apart_from(call, out, a, b, bias);

    GemmArgs args = gemm_args(a, b, out, beta);
    args.bias = bias.data;
    args.alpha = alpha;
    args.activation = activation;
    if (out.rows > 0 && out.cols > 0) {
        Tasks tasks;
        tasks.add(kernels().gemm, args);
        tasks.run(gemm_ns(args.m, args.n, args.k));
    }
    return out.release();
}

void check_accumulate(const Call& call, const Value& out, const char* name) {
    if (!out.given()) {
        call.value_error(out,
                         std::string("is None, but accumulate=True adds into it; pass an array for ") + name);
    }
}

PyObject* linear_backward(Call& call) {
    enum { kDy, kX, kW, kNeedDx, kNeedDb, kOut, kAccumulate };
    const bool need_dx = flag(call, call[kNeedDx]);
    const bool need_db = flag(call, call[kNeedDb]);
    const bool accumulate = flag(call, call[kAccumulate]);
    const OutItems outs(call, call[kOut], 3);
    if (!need_dx && outs[0].given())
        call.value_error(outs[0], "is given, but need_dx=False; pass None for it");
    if (!need_db && outs[2].given())
        call.value_error(outs[2], "is given, but need_db=False; pass None for it");
    if (accumulate) check_accumulate(call, outs[1], "dw");
    if (accumulate && need_db) check_accumulate(call, outs[2], "db");

    const Input dy = read_matrix(call, call[kDy], need_db ? Layout::rows : Layout::strided);
    Input x = read_matrix(call, call[kX], Layout::strided);
    Input w = read_matrix(call, call[kW], Layout::strided);
    require_shape(call, call[kX], x.shape, Shape{dy.rows, x.cols});
    require_shape(call, call[kW], w.shape, Shape{x.cols, dy.cols});

    Output dx;
    Output db;
    if (need_dx) dx = write_rows(call, outs[0], x.shape);
    Output dw = write_rows(call, outs[1], w.shape);
    if (need_db) db = write_rows(call, outs[2], Shape{dy.cols});
    check_apart_from(call, dx, dy, x, w, dw, db);
    check_apart_from(call, dw, dy, x, w, db);
    check_apart_from(call, db, dy, x, w);

    transpose(x);
    transpose(w);
    const Kernels& k = kernels();
    Tasks tasks;
    double cost = 0;
    const GemmArgs dw_args = gemm_args(x, dy, dw, accumulate ? 1.0f : 0.0f);
    if (dw.rows > 0 && dw.cols > 0) {
        tasks.add(k.gemm, dw_args);
        cost += gemm_ns(dw_args.m, dw_args.n, dw_args.k);
    }
    GemmArgs dx_args{};
    if (dx.rows > 0 && dx.cols > 0) {
        dx_args = gemm_args(dy, w, dx, 0.0f);
        tasks.add(k.gemm, dx_args);
        cost += gemm_ns(dx_args.m, dx_args.n, dx_args.k);
    }
    ColumnSumArgs db_args{};
    if (db.cols > 0) {
        float* partials = workspace(column_partials(dy.rows, dy.cols));
        db_args = {.x = dy.data,
                   .x_row = dy.row,
                   .rows = dy.rows,
                   .cols = dy.cols,
                   .out = db.data,
                   .partials = partials,
                   .accumulate = accumulate};
        tasks.add(k.column_sum, db_args);
        cost += stream_ns(static_cast<double>(dy.rows) * static_cast<double>(dy.cols));
    }
    tasks.run(cost);
    const auto or_none = [](Output& o) { return o.object ? std::move(o.object) : py::object(py::none()); };
    return py::make_tuple(or_none(dx), or_none(dw), or_none(db)).release().ptr();
}

}  // namespace

void bind_gemm(py::module_& m) {
    add_function<gemm>(m, kGemmDoc);
    add_function<linear_backward>(m, kLinearBackwardDoc);
}

}  // namespace fastnn::bind

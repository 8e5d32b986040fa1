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
``activation`` is None or a kind of ``ops.activation``, with its default alpha.

``a`` and ``b`` are both float32, or both bfloat16 (the dtype of the package ml_dtypes). bfloat16 is summed in
float32, ``bias`` stays float32, and the result is bfloat16, or float32 where ``out`` is or ``out_dtype=np.float32``
says so; a bfloat16 result is rounded once, to nearest even, after the activation (PyTorch rounds before it).

On a CUDA device bfloat16 is multiplied by tensor cores, and so is float32 with ``tf32=True``: ``a`` and ``b`` are then
rounded to TF32, of 10 bits of fraction, as they are read (PyTorch: ``torch.backends.cuda.matmul.allow_tf32``).

Returns ``out``, or a new array. The same bits for any number of threads; of float32 also for any ISA.

Raises TypeError for arrays of other dtypes or of both, ValueError for shapes that do not fit, overlap, an ``out`` that
cannot be written in place, ``beta != 0`` without ``out``, and ``tf32=True`` for arrays of the host or of bfloat16.

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

constexpr const char* kLinearBf16Doc = R"(linear_bf16(x, w, *, bias=None, activation=None)
--

``gemm`` of float32 ``x`` (n, in) and ``w`` (in, out), both rounded to bfloat16 first; the result is float32.
)";

constexpr const char* kLinearBackwardBf16Doc =
    R"(linear_backward_bf16(dy, x, w, *, need_dx=True, need_db=True, out=None, accumulate=False)
--

``linear_backward`` whose products are those of ``dy``, ``x`` and ``w`` rounded to bfloat16; ``db`` sums ``dy`` as it is.
)";

// The matrices are of one dtype, and only bfloat16 ones may have a result of either.
void check_same_dtype(const Call& call, const Value& a, const Value& b, Dtype of_a, Dtype of_b) {
    if (of_a == of_b) return;
    const std::string& lower = (of_a == Dtype::bfloat16 ? a : b).label();
    call.type_error(b, std::string("has dtype ") + name_of(of_b) + " and '" + a.label() + "' has " +
                           name_of(of_a) + "; pass " + lower + ".astype(np.float32), or both as bfloat16");
}

Output gemm_output(Call& call, const Value& out, const Value& out_dtype, const Shape& shape, Dtype inputs) {
    Dtype fresh = inputs;
    if (out_dtype.given()) {
        fresh = read_dtype(call, out_dtype);
        if (inputs == Dtype::float32 && fresh == Dtype::bfloat16) {
            call.type_error(out_dtype, "is bfloat16, but 'a' and 'b' are float32; pass them as bfloat16");
        }
    }
    const Dtypes allowed = inputs == Dtype::float32 ? Dtypes::float32 : Dtypes::bfloat16_too;
    Output result = write_rows(call, out, shape, allowed, fresh);
    if (out_dtype.given() && result.dtype != fresh) {
        call.type_error(out, std::string("has dtype ") + name_of(result.dtype) + " and out_dtype is " +
                                 name_of(fresh) + "; leave out_dtype None");
    }
    return result;
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
    const bool tf32 = flag(call, call[kTf32]);
    if (beta != 0 && !call[kOut].given()) {
        call.value_error(call[kBeta], "is not 0, which needs 'out' to read from; pass out=");
    }

    Input a = read_matrix(call, call[kA], Layout::strided, Dtypes::bfloat16_too);
    Input b = read_matrix(call, call[kB], Layout::strided, Dtypes::bfloat16_too);
    check_same_dtype(call, call[kA], call[kB], a.dtype, b.dtype);
    if (tf32 && call.device() == nullptr)
        call.value_error(call[kTf32], "is for arrays on a CUDA device; leave it False");
    if (tf32 && a.dtype != Dtype::float32)
        call.value_error(call[kTf32], "rounds float32 arrays, and 'a' and 'b' are bfloat16; leave it False");
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
    Output out = gemm_output(call, call[kOut], call[kOutDtype], Shape{a.rows, b.cols}, a.dtype);
    check_apart_from(call, out, a, b, bias);

    GemmArgs args = gemm_args(a, b, out, beta);
    args.bias = bias.data;
    args.alpha = alpha;
    args.activation = activation;
    if (out.rows > 0 && out.cols > 0) {
        const GemmBf16Args args16{.g = args, .a = a.data16, .b = b.data16, .c = out.data16};
        Tasks tasks(call);
        if (tf32)
            call.device()->launch(GemmTf32Args{args});
        else if (a.dtype == Dtype::float32)
            tasks.add(kernels().gemm, args);
        else
            tasks.add(kernels().gemm_bf16, args16);
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

// Puts operands of products into `memory` as what they are rounded to.
class Operands {
 public:
    explicit Operands(float* memory) : free_(memory) {}
    void round(Tasks& tasks, Input& x) {
        RoundArgs& args = args_[count_++];
        args = {.x = x.data, .x_row = x.row, .rows = x.rows, .cols = x.cols, .y = free_};
        tasks.add(kernels().round_bf16, args);
        x.data = free_;
        x.row = x.cols;
        free_ += floats(x);
    }
    // Whole cache lines: a product reads its second operand in place only where that is aligned.
    static Index floats(const Input& x) { return (x.rows * x.cols + 15) / 16 * 16; }

 private:
    float* free_;
    RoundArgs args_[3]{};
    int count_ = 0;
};

void add_product(Tasks& tasks, GemmBf16Args& args, bool rounded) {
    if (rounded)
        add_product_of_rounded(tasks, kernels(), args);
    else
        tasks.add(kernels().gemm, args.g);
}

PyObject* linear_bf16(Call& call) {
    enum { kX, kW, kBias, kActivation };
    const Activation activation = optional_activation(call, call[kActivation]);
    Input x = read_matrix(call, call[kX], Layout::rows);
    Input w = read_matrix(call, call[kW], Layout::rows);
    require_shape(call, call[kW], w.shape, Shape{x.cols, w.cols});
    Input bias;
    if (call[kBias].given()) bias = read_vector(call, call[kBias], w.cols);
    Output y = write_rows(call, Value{Py_None, "out"}, Shape{x.rows, w.cols});
    if (y.rows > 0 && y.cols > 0) {
        Operands operands(workspace_of(call, Operands::floats(x) + Operands::floats(w)));
        Tasks tasks(call);
        operands.round(tasks, x);
        operands.round(tasks, w);
        GemmBf16Args args{.g = gemm_args(x, w, y, 0), .a = nullptr, .b = nullptr, .c = nullptr};
        args.g.bias = bias.data;
        args.g.activation = activation;
        add_product(tasks, args, true);
        tasks.run(gemm_ns(args.g.m, args.g.n, args.g.k));
    }
    return y.release();
}

template <bool rounded>
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

    const Layout layout = rounded ? Layout::rows : Layout::strided;
    const Input dy = read_matrix(call, call[kDy], need_db ? Layout::rows : layout);
    Input x = read_matrix(call, call[kX], layout);
    Input w = read_matrix(call, call[kW], layout);
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
    py::object result = results({&dx, &dw, &db});

    Tasks tasks(call);
    const Index partials = need_db ? column_partials(dy.rows, dy.cols) : 0;
    Index floats = partials;
    if (rounded) floats += Operands::floats(dy) + Operands::floats(x) + Operands::floats(w);
    float* const memory = floats > 0 ? workspace_of(call, floats) : nullptr;
    Operands operands(memory + partials);
    Input factor = dy;
    if (rounded) {
        operands.round(tasks, factor);
        operands.round(tasks, x);
        if (need_dx) operands.round(tasks, w);
    }
    transpose(x);
    transpose(w);
    double cost = 0;
    const auto product = [](const Input& a, const Input& b, const Output& c, float beta) {
        return GemmBf16Args{.g = gemm_args(a, b, c, beta), .a = nullptr, .b = nullptr, .c = nullptr};
    };
    GemmBf16Args dw_args = product(x, factor, dw, accumulate ? 1.0f : 0.0f);
    if (dw.rows > 0 && dw.cols > 0) {
        add_product(tasks, dw_args, rounded);
        cost += gemm_ns(dw_args.g.m, dw_args.g.n, dw_args.g.k);
    }
    GemmBf16Args dx_args{};
    if (dx.rows > 0 && dx.cols > 0) {
        dx_args = product(factor, w, dx, 0.0f);
        add_product(tasks, dx_args, rounded);
        cost += gemm_ns(dx_args.g.m, dx_args.g.n, dx_args.g.k);
    }
    ColumnSumArgs db_args{};
    if (db.cols > 0) {
        db_args = {.x = dy.data,
                   .x_row = dy.row,
                   .rows = dy.rows,
                   .cols = dy.cols,
                   .out = db.data,
                   .partials = memory,
                   .accumulate = accumulate};
        tasks.add(kernels().column_sum, db_args);
        cost += stream_ns(static_cast<double>(dy.rows) * static_cast<double>(dy.cols));
    }
    tasks.run(cost);
    return result.release().ptr();
}

}  // namespace

void bind_gemm(py::module_& m) {
    add_function<gemm>(m, kGemmDoc, Places::device_too);
    add_function<linear_backward<false>>(m, kLinearBackwardDoc, Places::device_too);
    add_function<linear_bf16>(m, kLinearBf16Doc, Places::device_too);
    add_function<linear_backward<true>>(m, kLinearBackwardBf16Doc, Places::device_too);
}

}  // namespace fastnn::bind

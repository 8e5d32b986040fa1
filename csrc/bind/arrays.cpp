#include "bind/arrays.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "bind/device_arrays.h"
#include "bind/dlpack.h"
#include "bind/on_device.h"
#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;
using Descr = py::detail::PyArrayDescr_Proxy;

struct NumPy {
    PyTypeObject* ndarray = nullptr;
    PyObject* float32 = nullptr;
    Npy* api = nullptr;
} g_numpy;

// Of an array that passed check_kind, or of a new one.
Dtype dtype_of(const ArrayStruct* a) {
    const bool is_float32 = reinterpret_cast<const Descr*>(a->descr)->type_num == Npy::NPY_FLOAT_;
    return is_float32 ? Dtype::float32 : Dtype::bfloat16;
}

Bytes item_of(const ArrayStruct* a) { return size_of(dtype_of(a)); }

enum class Access { read, write };

std::string tuple_text(const Bytes* values, int n) {
    std::string text = "(";
    for (int i = 0; i < n; ++i) text += (i > 0 ? ", " : "") + std::to_string(values[i]);
    return text + (n == 1 ? ",)" : ")");
}

std::string layout_text(const ArrayStruct* a) {
    return "got strides " + tuple_text(a->strides, a->nd) + " for shape " + tuple_text(a->dimensions, a->nd);
}

// ---- kind and dtype ------------------------------------------------------------------------------------

void refuse_mask(const Call& call, const Value& value) {
    const auto ma = py::reinterpret_steal<py::object>(PyImport_GetModule(py::str("numpy.ma").ptr()));
    if (!ma) return;  // then no masked array exists
    const int masked = PyObject_IsInstance(value.object, py::object(ma.attr("MaskedArray")).ptr());
    if (masked < 0) throw py::error_already_set();
    if (masked == 1) {
        call.type_error(
            value, "is a masked array, whose mask would be ignored; pass " + value.label() + ".filled(0)");
    }
}

const ArrayStruct* array_of(Call& call, const Value& value, Access access, Dtypes dtypes) {
    PyObject* array = value.object;
    if (Py_TYPE(array) != g_numpy.ndarray) {
        if (PyObject_TypeCheck(array, g_numpy.ndarray)) {
            refuse_mask(call, value);
        } else {
            array = array_of_dlpack(call, value, access == Access::write, dtypes);
            if (array == nullptr) array = array_of_interface(call, value);
        }
    }
    return reinterpret_cast<const ArrayStruct*>(array);
}

const ArrayStruct* check_kind(Call& call, const Value& value, Access access, Dtypes dtypes) {
    const ArrayStruct* a = array_of(call, value, access, dtypes);
    const std::string name = value.label();
    const bool any = dtypes == Dtypes::bfloat16_too;
    const std::string wanted = any ? "float32 or bfloat16" : "float32";
    if (a == nullptr) {
        std::string cure = "np.asarray(" + name + ", dtype=np.float32)";
        if (access == Access::write || !value.given()) cure = "an ndarray";
        if (PyCapsule_CheckExact(value.object)) cure = "the array itself, not its capsule";
        call.type_error(value, "must be a " + wanted + " array (NumPy, or one that speaks DLPack), got " +
                                   type_name(value.object) + "; pass " + cure);
    }
    const auto* descr = reinterpret_cast<const Descr*>(a->descr);
    if (any && is_bfloat16(reinterpret_cast<PyObject*>(a->descr))) return a;
    if (descr->type_num != Npy::NPY_FLOAT_) {
        const bool foreign = reinterpret_cast<const PyObject*>(a) != value.object;
        const std::string cure = access == Access::write
                                     ? "it is written in place, so make it a " + wanted + " array"
                                 : any && descr->type_num == Npy::NPY_USHORT_
                                     ? "bits of bfloat16 are " + name + ".view(ml_dtypes.bfloat16)"
                                 : foreign ? "convert it to float32 (PyTorch: " + name + ".float())"
                                           : "pass " + name + ".astype(np.float32)";
        call.type_error(value, "must have dtype " + wanted + ", got " + dtype_text(a) + "; " + cure);
    }
    if (descr->byteorder != '=') {
        const std::string cure = access == Access::write
                                     ? "it is written in place, so make it a native array ('=f4')"
                                     : "pass " + name + ".astype('=f4')";
        call.type_error(value, "must have native byte order, got dtype " + dtype_text(a) + "; " + cure);
    }
    return a;
}

inline const ArrayStruct* float_array(Call& call, const Value& value, Access access,
                                      Dtypes dtypes = Dtypes::float32) {
    const auto* a = reinterpret_cast<const ArrayStruct*>(value.object);
    if (Py_TYPE(value.object) == g_numpy.ndarray && a->descr == g_numpy.float32) [[likely]]
        return a;
    return check_kind(call, value, access, dtypes);
}

// ---- layout --------------------------------------------------------------------------------------------

bool aligned(const ArrayStruct* a) {
    return reinterpret_cast<std::uintptr_t>(a->data) % static_cast<std::uintptr_t>(item_of(a)) == 0;
}

bool dense(const ArrayStruct* a) { return (a->flags & Npy::NPY_ARRAY_C_CONTIGUOUS_) != 0; }

// Of an Input or an Output.
template <class Side>
void set_data(Side& side, const ArrayStruct* a) {
    side.dtype = dtype_of(a);
    if (side.dtype == Dtype::float32)
        side.data = reinterpret_cast<float*>(a->data);
    else
        side.data16 = reinterpret_cast<BFloat16*>(a->data);
}

// The product of the first n dimensions; NumPy keeps that of all non-zero dimensions below 2**63 bytes.
Index product(const Bytes* dims, int n) {
    Index size = 1;
    for (int i = 0; i < n; ++i) {
        if (dims[i] == 0) return 0;
        size *= dims[i];
    }
    return size;
}

void find_region(Region& region, const Value& value, const ArrayStruct* a) {
    region.object = reinterpret_cast<PyObject*>(const_cast<ArrayStruct*>(a));
    region.name = value.name;
    region.index = value.index;
    if (product(a->dimensions, a->nd) == 0) return;
    const auto start = reinterpret_cast<std::uintptr_t>(a->data);
    region.lo = start;
    region.hi = start + static_cast<std::uintptr_t>(item_of(a));
    for (int i = 0; i < a->nd; ++i) {
        const Bytes stride = a->strides[i];
        const auto reach =
            static_cast<std::uintptr_t>(stride) * static_cast<std::uintptr_t>(a->dimensions[i] - 1);
        (stride < 0 ? region.lo : region.hi) += reach;  // modulo 2**64, so negative strides come out right
    }
}

// Rows of contiguous columns: the last axis, and all others walked with one stride.
struct Rows {
    Index rows, cols;
    Bytes row;  // meaningful only if `regular`
    bool regular;
};

Rows collapse(const ArrayStruct* a) {
    const Bytes item = item_of(a);
    if (a->nd == 0) return {1, 1, item, aligned(a)};
    const int last = a->nd - 1;
    Rows r{product(a->dimensions, last), a->dimensions[last], 0, true};
    r.row = r.cols * item;
    if (r.rows == 0 || r.cols == 0) return r;
    r.regular = aligned(a) && (r.cols == 1 || a->strides[last] == item);
    bool first = true;
    Bytes extent = 0;  // what the axes seen so far step over together
    for (int i = last - 1; i >= 0; --i) {
        if (a->dimensions[i] == 1) continue;
        if (first) {
            r.row = a->strides[i];
        } else if (a->strides[i] != extent) {
            r.regular = false;
        }
        first = false;
        if (__builtin_mul_overflow(a->strides[i], a->dimensions[i], &extent)) r.regular = false;
    }
    r.regular = r.regular && r.row % item == 0;
    return r;
}

// ---- new arrays ----------------------------------------------------------------------------------------

py::object new_array(const Call& call, const Shape& shape, PyObject* descr) {
    Index bytes = sizeof(float);
    bool overflow = false;
    for (int i = 0; i < shape.nd; ++i) {
        if (shape.dims[i] != 0) overflow |= __builtin_mul_overflow(bytes, shape.dims[i], &bytes);
    }
    if (overflow)
        call.value_error("the result would have shape " + text_of(shape) + ", more than memory can hold");
    Bytes dims[kMaxDimensions];
    std::copy(shape.dims, shape.dims + shape.nd, dims);
    Py_INCREF(descr);  // the new array takes a reference
    PyObject* array = g_numpy.api->PyArray_NewFromDescr_(g_numpy.ndarray, descr, shape.nd, dims, nullptr,
                                                         nullptr, 0, nullptr);
    if (array == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(array);
}

// A C-contiguous copy that lives until the call ends; on a device nothing is copied.
const ArrayStruct* copied(Call& call, const Value& value, const ArrayStruct* a) {
    if (call.device() != nullptr) call.device()->refuse_copy(call, value, layout_text(a));
    py::object copy = new_array(call, Shape(a), a->descr);
    auto* source = reinterpret_cast<PyObject*>(const_cast<ArrayStruct*>(a));
    if (g_numpy.api->PyArray_CopyInto_(copy.ptr(), source) != 0) throw py::error_already_set();
    return reinterpret_cast<const ArrayStruct*>(call.keep(std::move(copy)));
}

[[noreturn]] void refuse_dimensions(const Call& call, const Value& value, const ArrayStruct* a, int wanted) {
    const std::string cure =
        wanted == 2 ? "reshape it to (rows, columns)" : "pass " + value.label() + ".ravel()";
    call.value_error(
        value, "must be " + std::to_string(wanted) + "-D, got shape " + text_of(Shape(a)) + "; " + cure);
}

void check_writable(const Call& call, const Value& value, const ArrayStruct* a) {
    if ((a->flags & Npy::NPY_ARRAY_WRITEABLE_) == 0) {
        call.value_error(value, "is read-only; pass an array that may be written");
    }
    if (!aligned(a) && product(a->dimensions, a->nd) > 0) {
        call.value_error(value, "starts at an address that is not a multiple of " +
                                    std::to_string(item_of(a)) + "; pass an aligned array, such as " +
                                    value.label() + ".copy()");
    }
}

// Fill what does not depend on the layout, and return the ndarray whose layout it is.
const ArrayStruct* new_output(Call& call, const Value& value, const Shape& shape, Output& out, Dtype dtype) {
    if (call.device() != nullptr) [[unlikely]]
        out.object = call.device()->empty(call, value, shape, dtype);
    else
        out.object =
            new_array(call, shape, dtype == Dtype::float32 ? g_numpy.float32 : bfloat16_descr(call, value));
    const Value made{out.object.ptr(), value.name, value.index};
    const ArrayStruct* a = array_of(call, made, Access::write, Dtypes::bfloat16_too);
    out.region = Region{value};
    set_data(out, a);
    return a;
}

const ArrayStruct* given_output(const Call& call, const Value& value, const ArrayStruct* a,
                                const Shape& shape, Output& out) {
    out.object = py::reinterpret_borrow<py::object>(value.object);
    require_shape(call, value, Shape(a), shape);
    check_writable(call, value, a);
    set_data(out, a);
    find_region(out.region, value, a);
    return a;
}

inline const ArrayStruct* output(Call& call, const Value& value, const Shape& shape, Output& out,
                                 Dtypes dtypes = Dtypes::float32, Dtype fresh = Dtype::float32) {
    if (!value.given()) return new_output(call, value, shape, out, fresh);
    return given_output(call, value, float_array(call, value, Access::write, dtypes), shape, out);
}

void set_flat(const Call& call, const Value& value, const ArrayStruct* a, Output& out) {
    if (!dense(a)) {
        call.value_error(value, "must be C-contiguous, " + layout_text(a) + "; pass a C-contiguous array");
    }
    out.rows = 1;
    out.cols = out.row = product(a->dimensions, a->nd);
}

Input flat_input(Call& call, const Value& value, const ArrayStruct* a) {
    Input in;
    find_region(in.region, value, a);
    if (!dense(a) || !aligned(a)) a = copied(call, value, a);
    in.shape = Shape(a);
    set_data(in, a);
    in.rows = 1;
    in.cols = in.row = product(a->dimensions, a->nd);
    return in;
}

}  // namespace

void load_numpy() {
    g_numpy.api = &Npy::get();
    g_numpy.ndarray = g_numpy.api->PyArray_Type_;
    g_numpy.float32 = g_numpy.api->PyArray_DescrFromType_(Npy::NPY_FLOAT_);  // kept for ever
    if (g_numpy.float32 == nullptr) throw py::error_already_set();
}

// ---- shapes --------------------------------------------------------------------------------------------

std::string text_of(const Shape& shape) {
    Bytes dims[kMaxDimensions];
    std::copy(shape.dims, shape.dims + shape.nd, dims);
    return tuple_text(dims, shape.nd);
}

void require_shape(const Call& call, const Value& value, const Shape& got, const Shape& expected) {
    if (got == expected) return;
    call.value_error(value, "must have shape " + text_of(expected) + ", got " + text_of(got));
}

// ---- inputs --------------------------------------------------------------------------------------------

const ArrayStruct* array_or_null(Call& call, const Value& value) {
    return array_of(call, value, Access::read, Dtypes::float32);
}

std::string dtype_text(const ArrayStruct* array) { return utf8(py::str(py::handle(array->descr)).ptr()); }

Input read_matrix(Call& call, const Value& value, Layout layout, Dtypes dtypes) {
    const ArrayStruct* a = float_array(call, value, Access::read, dtypes);
    if (a->nd != 2) refuse_dimensions(call, value, a, 2);
    Input in;
    find_region(in.region, value, a);
    const Bytes item = item_of(a);
    const auto strides = [=](const ArrayStruct* m) {  // those of axes that are never walked may be anything
        const Bytes cols = m->dimensions[1];
        return std::pair{m->dimensions[0] > 1 ? m->strides[0] : cols * item, cols > 1 ? m->strides[1] : item};
    };
    auto [row, col] = strides(a);
    const bool in_place = aligned(a) && row % item == 0 && col % item == 0;
    if (!in_place || (layout == Layout::rows && col != item)) {
        a = copied(call, value, a);
        std::tie(row, col) = strides(a);
    }
    set_data(in, a);
    in.rows = a->dimensions[0];
    in.cols = a->dimensions[1];
    in.shape = Shape{in.rows, in.cols};
    in.row = row / item;
    in.col = col / item;
    return in;
}

Input read_rows(Call& call, const Value& value) {
    const ArrayStruct* a = float_array(call, value, Access::read);
    if (a->nd < 1)
        call.value_error(value, "must have at least one dimension, got shape (); pass a 2-D array");
    Input in;
    find_region(in.region, value, a);
    Rows r = collapse(a);
    if (!r.regular) {
        a = copied(call, value, a);
        r = collapse(a);
    }
    in.shape = Shape(a);
    set_data(in, a);
    in.rows = r.rows;
    in.cols = r.cols;
    in.row = r.row / item_of(a);
    return in;
}

Input read_vector(Call& call, const Value& value, Index n) {
    const ArrayStruct* a = float_array(call, value, Access::read);
    if (a->nd != 1) refuse_dimensions(call, value, a, 1);
    require_shape(call, value, Shape(a), Shape{n});
    return flat_input(call, value, a);
}

Input read_flat(Call& call, const Value& value) {
    return flat_input(call, value, float_array(call, value, Access::read));
}

// ---- outputs -------------------------------------------------------------------------------------------

Output write_rows(Call& call, const Value& value, const Shape& shape, Dtypes dtypes, Dtype fresh) {
    Output out;
    const ArrayStruct* a = output(call, value, shape, out, dtypes, fresh);
    const Bytes item = item_of(a);
    const Rows r = collapse(a);
    if (!r.regular || (r.rows > 1 && r.row < r.cols * item)) {
        call.value_error(value, "must have contiguous columns and rows that do not overlap, " +
                                    layout_text(a) + "; pass a C-contiguous array");
    }
    out.rows = r.rows;
    out.cols = r.cols;
    out.row = r.row / item;
    return out;
}

Output write_flat(Call& call, const Value& value, const Shape& shape) {
    Output out;
    set_flat(call, value, output(call, value, shape, out), out);
    return out;
}

Output update_flat(Call& call, const Value& value, Shape& shape) {
    const ArrayStruct* a = float_array(call, value, Access::write);  // refuses None
    shape = Shape(a);
    Output out;
    set_flat(call, value, given_output(call, value, a, shape, out), out);
    return out;
}

}  // namespace fastnn::bind

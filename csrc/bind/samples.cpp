#include "bind/samples.h"

#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;

struct SampleType {
    Element element;
    Bytes size;
};

SampleType sample_type_of(const Call& call, const Value& value, const ArrayStruct* a) {
    const auto* descr = reinterpret_cast<const py::detail::PyArrayDescr_Proxy*>(a->descr);
    const bool native = descr->byteorder == '=' || descr->byteorder == '|';
    if (native && descr->type_num == Npy::NPY_FLOAT_) return {Element::float32, 4};
    if (native && descr->type_num == Npy::NPY_DOUBLE_) return {Element::float64, 8};
    if (native && descr->type_num == Npy::NPY_UBYTE_) return {Element::uint8, 1};
    call.type_error(value, "must have dtype float32, float64 or uint8 in native byte order, got " +
                               dtype_text(a) + "; pass " + value.label() + ".astype(np.float64)");
}

const ArrayStruct* any_array(Call& call, const Value& value) {
    const ArrayStruct* a = array_or_null(call, value);
    if (a == nullptr) {
        call.type_error(value, "must be a NumPy array, got " + type_name(value.object) +
                                   "; pass np.asarray(" + value.label() + ")");
    }
    return a;
}

struct NumberType {
    Number number;
    Bytes size;
};

NumberType number_type_of(const Call& call, const Value& value, const ArrayStruct* a) {
    const auto* descr = reinterpret_cast<const py::detail::PyArrayDescr_Proxy*>(a->descr);
    if (descr->byteorder == '=' || descr->byteorder == '|') {
        switch (descr->type_num) {
            case Npy::NPY_FLOAT_:
                return {Number::float32, 4};
            case Npy::NPY_DOUBLE_:
                return {Number::float64, 8};
            case Npy::NPY_BYTE_:
                return {Number::int8, 1};
            case Npy::NPY_BOOL_:
            case Npy::NPY_UBYTE_:
                return {Number::uint8, 1};
            case Npy::NPY_SHORT_:
                return {Number::int16, 2};
            case Npy::NPY_USHORT_:
                return {Number::uint16, 2};
            case Npy::NPY_INT_:
                return {Number::int32, 4};
            case Npy::NPY_UINT_:
                return {Number::uint32, 4};
            case Npy::NPY_LONG_:
            case Npy::NPY_LONGLONG_:
                return {Number::int64, 8};
            case Npy::NPY_ULONG_:
            case Npy::NPY_ULONGLONG_:
                return {Number::uint64, 8};
            default:
                break;
        }
    }
    call.type_error(value,
                    "must hold integers, float32 or float64 in native byte order, got " + dtype_text(a));
}

}  // namespace

DataRows read_any_rows(Call& call, const Value& value) {
    const ArrayStruct* a = any_array(call, value);
    const NumberType type = number_type_of(call, value, a);
    if (a->nd < 1) call.value_error(value, "must have rows");
    DataRows x{.data = a->data, .number = type.number, .rows = a->dimensions[0], .cols = 1};
    Bytes inside = type.size;
    bool contiguous = true;
    for (int i = a->nd - 1; i > 0; --i) {
        contiguous = contiguous && (a->dimensions[i] == 1 || a->strides[i] == inside);
        inside *= a->dimensions[i];
        x.cols *= a->dimensions[i];
    }
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(x.data) % static_cast<std::uintptr_t>(type.size) == 0;
    if (!contiguous || !aligned || a->strides[0] % type.size != 0) {
        call.value_error(value, "must be aligned and have contiguous rows");
    }
    x.row = x.rows > 1 ? a->strides[0] / type.size : x.cols;
    return x;
}

bool holds_doubles(Call& call, const Value& value) {
    return sample_type_of(call, value, any_array(call, value)).element == Element::float64;
}

const double* read_doubles(Call& call, const Value& value, Index n) {
    const ArrayStruct* a = any_array(call, value);
    if (sample_type_of(call, value, a).element != Element::float64) {
        call.type_error(value, "must have dtype float64, got " + dtype_text(a));
    }
    require_shape(call, value, Shape(a), Shape{n});
    if ((a->flags & Npy::NPY_ARRAY_C_CONTIGUOUS_) == 0 ||
        reinterpret_cast<std::uintptr_t>(a->data) % sizeof(double) != 0) {
        call.value_error(value, "must be contiguous and aligned; pass " + value.label() + ".copy()");
    }
    return reinterpret_cast<const double*>(a->data);
}

Samples read_samples(Call& call, const Value& value) {
    const ArrayStruct* a = any_array(call, value);
    const SampleType type = sample_type_of(call, value, a);
    if (a->nd < 2) {
        call.value_error(value, "must have at least two dimensions, got shape " + text_of(Shape(a)));
    }
    Samples x;
    x.data = a->data;
    x.element = type.element;
    x.shape = Shape(a);
    x.cols = a->dimensions[a->nd - 1];
    x.rows = 1;
    for (int i = 0; i < a->nd - 1; ++i) x.rows *= a->dimensions[i];  // fits: NumPy holds the array
    x.row = x.cols;
    x.region.object = reinterpret_cast<PyObject*>(const_cast<ArrayStruct*>(a));
    x.region.name = value.name;
    if (x.rows == 0 || x.cols == 0) return x;
    const bool dense = (a->flags & Npy::NPY_ARRAY_C_CONTIGUOUS_) != 0;
    const bool columns = x.cols == 1 || a->strides[a->nd - 1] == type.size;
    const bool rows = a->nd == 2 && a->strides[0] % type.size == 0;
    if (reinterpret_cast<std::uintptr_t>(x.data) % static_cast<std::uintptr_t>(type.size) != 0 ||
        !(dense || (columns && rows))) {
        call.value_error(value, "must be aligned and have contiguous columns; pass np.ascontiguousarray(" +
                                    value.label() + ")");
    }
    if (!dense && x.rows > 1) x.row = a->strides[0] / type.size;
    const auto start = reinterpret_cast<std::uintptr_t>(x.data);
    const auto reach = static_cast<std::uintptr_t>((x.rows - 1) * x.row * type.size);
    x.region.lo = x.row < 0 ? start + reach : start;
    x.region.hi = (x.row < 0 ? start : start + reach) + static_cast<std::uintptr_t>(x.cols * type.size);
    return x;
}

}  // namespace fastnn::bind

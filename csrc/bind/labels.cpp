#include "bind/labels.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;

const py::detail::PyArrayDescr_Proxy* descr_of(const ArrayStruct* a) {
    return reinterpret_cast<const py::detail::PyArrayDescr_Proxy*>(a->descr);
}

struct Ids {
    const char* data;
    Bytes stride;
    Index n;
    Index classes;
    std::optional<std::int64_t> ignored;
    std::int64_t* out;
};

template <class T>
Index copy_ids(const Call& call, const Value& value, const Ids& ids) {
    Index ignored = 0;
    for (Index i = 0; i < ids.n; ++i) {
        T id;
        std::memcpy(&id, ids.data + i * ids.stride, sizeof id);  // any alignment
        if (ids.ignored && std::cmp_equal(id, *ids.ignored)) {
            ids.out[i] = kIgnoredLabel;
            ++ignored;
            continue;
        }
        if (id < T{0} || static_cast<std::uint64_t>(id) >= static_cast<std::uint64_t>(ids.classes)) {
            throw ArgumentError(PyExc_ValueError, call.function() + "(): " + value.label() + "[" +
                                                      std::to_string(i) + "] is " + std::to_string(id) +
                                                      ", must be in 0.." + std::to_string(ids.classes - 1));
        }
        ids.out[i] = static_cast<std::int64_t>(id);
    }
    return ignored;
}

std::string cure_of(const Value& value) { return "; pass " + value.label() + ".astype(np.int64)"; }

void check_ids(const Call& call, const Value& value, const ArrayStruct* a, Index n) {
    const auto* descr = descr_of(a);
    if (descr->type_num < Npy::NPY_BYTE_ || descr->type_num > Npy::NPY_ULONGLONG_) {
        call.type_error(value, "must be integer class ids or float32 probabilities, got dtype " +
                                   dtype_text(a) + cure_of(value));
    }
    if (descr->byteorder != '=' && descr->byteorder != '|') {
        call.type_error(value, "must have native byte order, got dtype " + dtype_text(a) + cure_of(value));
    }
    if (a->nd != 1) {
        call.value_error(value, "must be 1-D class ids, got shape " + text_of(Shape(a)) + "; pass " +
                                    value.label() + ".ravel(), or probabilities as float32");
    }
    require_shape(call, value, Shape(a), Shape{n});
}

const ArrayStruct* label_array(Call& call, const Value& value) {
    const ArrayStruct* a = array_or_null(call, value);
    if (a == nullptr) {
        call.type_error(value,
                        "must be a NumPy array of integer class ids or of float32 probabilities, got " +
                            type_name(value.object) + "; pass np.asarray(" + value.label() + ")");
    }
    return a;
}

}  // namespace

bool are_class_ids(Call& call, const Value& value, Index n) {
    const ArrayStruct* a = label_array(call, value);
    const auto* descr = descr_of(a);
    if (descr->kind == 'b') {
        call.type_error(value, "must be integer class ids, got dtype bool" + cure_of(value));
    }
    if (descr->kind == 'f' && a->nd < 2) {
        call.type_error(value, "of shape (n,) are class ids and must be integers, got dtype " +
                                   dtype_text(a) + cure_of(value));
    }
    if (descr->kind == 'f') return false;
    check_ids(call, value, a, n);
    return true;
}

Index read_class_ids(Call& call, const Value& value, Index n, Index classes,
                     std::optional<std::int64_t> ignored, std::int64_t* out) {
    const ArrayStruct* a = label_array(call, value);
    check_ids(call, value, a, n);  // again: Python code ran since, and an array may be another than it was
    const Ids ids{a->data, a->strides[0], n, classes, ignored, out};
    switch (descr_of(a)->type_num) {
        case Npy::NPY_BYTE_:
            return copy_ids<signed char>(call, value, ids);
        case Npy::NPY_UBYTE_:
            return copy_ids<unsigned char>(call, value, ids);
        case Npy::NPY_SHORT_:
            return copy_ids<short>(call, value, ids);
        case Npy::NPY_USHORT_:
            return copy_ids<unsigned short>(call, value, ids);
        case Npy::NPY_INT_:
            return copy_ids<int>(call, value, ids);
        case Npy::NPY_UINT_:
            return copy_ids<unsigned int>(call, value, ids);
        case Npy::NPY_LONG_:
            return copy_ids<long>(call, value, ids);
        case Npy::NPY_ULONG_:
            return copy_ids<unsigned long>(call, value, ids);
        case Npy::NPY_LONGLONG_:
            return copy_ids<long long>(call, value, ids);
        default:
            return copy_ids<unsigned long long>(call, value, ids);
    }
}

double total_weight(const Call& call, const Value& value, const Input& weight, const std::int64_t* labels) {
    double total = 0;
    for (Index i = 0; i < weight.cols; ++i) {
        const double w = static_cast<double>(weight.data[i]);
        if (!(w >= 0) || std::isinf(w)) {
            Value item = value;
            item.index = i;
            call.value_error(item, "must be finite and at least 0, got " + repr_of(py::float_(w).ptr()));
        }
        if (labels == nullptr || labels[i] != kIgnoredLabel) total += w;
    }
    if (total == 0) call.value_error(value, "must not be all zero (on rows that are not ignored)");
    return total;
}

}  // namespace fastnn::bind

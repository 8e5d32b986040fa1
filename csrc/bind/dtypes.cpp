#include "bind/dtypes.h"

#include <pybind11/numpy.h>

#include "bind/scalars.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;

// Kept for ever.
PyObject* g_bfloat16 = nullptr;
PyObject* g_device_bfloat16 = nullptr;

void take_bfloat16(const py::object& ml_dtypes) {
    PyObject* descr = nullptr;
    if (Npy::get().PyArray_DescrConverter_(py::object(ml_dtypes.attr("bfloat16")).ptr(), &descr) != 1) {
        throw py::error_already_set();
    }
    g_bfloat16 = descr;
}

}  // namespace

bool is_bfloat16(PyObject* descr) {
    if (descr == g_device_bfloat16) return true;
    if (g_bfloat16 == nullptr) {
        const auto ml_dtypes =
            py::reinterpret_steal<py::object>(PyImport_GetModule(py::str("ml_dtypes").ptr()));
        if (!ml_dtypes || ml_dtypes.is_none()) return false;
        take_bfloat16(ml_dtypes);
    }
    const auto type_of = [](PyObject* d) {
        return reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(d)->type_num;
    };
    return descr == g_bfloat16 || type_of(descr) == type_of(g_bfloat16);
}

PyObject* bfloat16_descr(const Call& call, const Value& value) {
    if (g_bfloat16 == nullptr) {
        const auto ml_dtypes = py::reinterpret_steal<py::object>(PyImport_ImportModule("ml_dtypes"));
        if (!ml_dtypes) {
            if (!PyErr_ExceptionMatches(PyExc_ImportError)) throw py::error_already_set();
            PyErr_Clear();
            throw ArgumentError(PyExc_ImportError,
                                call.function() + "(): '" + value.label() +
                                    "' needs bfloat16 arrays, which ml_dtypes brings to NumPy; "
                                    "pip install ml_dtypes");
        }
        take_bfloat16(ml_dtypes);
    }
    return g_bfloat16;
}

PyObject* device_bfloat16_descr() {
    if (g_device_bfloat16 == nullptr &&
        Npy::get().PyArray_DescrConverter_(py::str("V2").ptr(), &g_device_bfloat16) != 1)
        throw py::error_already_set();
    return g_device_bfloat16;
}

Dtype read_dtype(const Call& call, const Value& value) {
    PyObject* converted = nullptr;
    if (Npy::get().PyArray_DescrConverter_(value.object, &converted) != 1) {
        PyErr_Clear();
        call.type_error(value,
                        "must be None, np.float32 or ml_dtypes.bfloat16, got " + repr_of(value.object));
    }
    const auto dtype = py::reinterpret_steal<py::dtype>(converted);
    if (is_bfloat16(dtype.ptr())) return Dtype::bfloat16;
    if (dtype.num() == Npy::NPY_FLOAT_ && dtype.byteorder() == '=') return Dtype::float32;
    call.type_error(value, "must be None, np.float32 or ml_dtypes.bfloat16, got " + repr_of(value.object));
}

}  // namespace fastnn::bind

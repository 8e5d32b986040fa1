#include "bind/views.h"

#include <pybind11/numpy.h>

#include "bind/arrays.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;

struct Geometry {
    Py_ssize_t dims[kMaxDimensions];
    Py_ssize_t strides[kMaxDimensions];  // in bytes
    char* data;
};

// Nothing of what a producer says is taken on trust: sizes that overflow would pass the overlap check.
void read_geometry(const Call& call, const Value& value, const Memory& m, Py_ssize_t item, Geometry& g) {
    if (m.nd < 0 || m.nd > kMaxDimensions) {
        call.value_error(value, "has a broken export: ndim " + std::to_string(m.nd));
    }
    const auto too_large = [&] { call.value_error(value, "has an exported shape beyond all memory"); };
    Py_ssize_t compact = item;  // bytes of the axes after this one, those of length 0 left out
    Py_ssize_t below = 0, above = item;
    bool empty = false;
    for (int i = m.nd - 1; i >= 0; --i) {
        const Py_ssize_t n = m.shape[i];
        if (n < 0) {
            call.value_error(value, "has a broken export: a dimension of " + std::to_string(n));
        }
        g.dims[i] = n;
        g.strides[i] = compact;
        if (n == 0) {
            empty = true;
        } else if (__builtin_mul_overflow(compact, n, &compact)) {
            too_large();
        }
        if (n <= 1) continue;  // the stride is never used
        Py_ssize_t reach = 0;
        if (m.strides != nullptr && __builtin_mul_overflow(m.strides[i], m.stride_unit, &g.strides[i]))
            too_large();
        if (__builtin_mul_overflow(g.strides[i], n - 1, &reach)) too_large();
        Py_ssize_t& side = reach < 0 ? below : above;
        if (__builtin_add_overflow(side, reach, &side)) too_large();
    }
    alignas(64) static char nothing[64];
    g.data = nothing;
    if (empty) return;
    if (m.start == 0) call.value_error(value, "has a broken export: elements and no data");
    std::uintptr_t first = 0, end = 0;
    if (__builtin_add_overflow(m.start, m.offset, &first) ||
        __builtin_add_overflow(first, static_cast<std::uintptr_t>(above), &end) ||
        first < std::uintptr_t{0} - static_cast<std::uintptr_t>(below)) {
        too_large();
    }
    g.data = reinterpret_cast<char*>(first);
}

}  // namespace

PyObject* view_of(Call& call, const Value& value, const Memory& memory, py::object descr, py::object owner) {
    Geometry g;
    read_geometry(call, value, memory, py::reinterpret_borrow<py::dtype>(descr).itemsize(), g);
    const Npy& api = Npy::get();
    const int flags = memory.writable ? Npy::NPY_ARRAY_WRITEABLE_ : 0;
    py::object view = owned(api.PyArray_NewFromDescr_(  // takes the reference to descr
        api.PyArray_Type_, descr.release().ptr(), memory.nd, g.dims, g.strides, g.data, flags, nullptr));
    if (api.PyArray_SetBaseObject_(view.ptr(), owner.release().ptr()) != 0) throw py::error_already_set();
    return call.keep(std::move(view));
}

}  // namespace fastnn::bind

// The one argument checker: every array that reaches a kernel passes through here. Arrays are float32;
// bfloat16 (the dtype of ml_dtypes) only where a function asks for Dtypes::bfloat16_too.
//
// Inputs may have any layout: what a kernel cannot read where it lies is copied once for the call. Outputs
// are written where they lie or refused, never copied. The usual case (a plain ndarray, float32, native) is
// decided by two pointer comparisons; an array of another library is seen through an ndarray over its memory
// (dlpack.h), on a CUDA device too (on_device.h): every check is the same there.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>

#include "bind/dtypes.h"
#include "bind/fastcall.h"
#include "core/types.h"

namespace fastnn::bind {

using ArrayStruct = py::detail::PyArray_Proxy;
using Bytes = py::ssize_t;

inline constexpr int kMaxDimensions = 64;  // NumPy's own limit

// A copy of the dimensions: the array's own list may be replaced whenever other Python code runs. Only the
// first `nd` are ever set, read or copied (64 of them for each array cost more than a small product).
struct Shape {
    Shape() {}
    explicit Shape(const ArrayStruct* array) { assign(array->dimensions, array->nd); }
    Shape(std::initializer_list<Index> sizes) { assign(sizes.begin(), static_cast<int>(sizes.size())); }
    Shape(const Shape& other) { assign(other.dims, other.nd); }
    Shape& operator=(const Shape& other) {
        assign(other.dims, other.nd);
        return *this;
    }
    bool operator==(const Shape& other) const {
        bool same = nd == other.nd;
        for (int i = 0; same && i < nd; ++i) same = dims[i] == other.dims[i];
        return same;
    }

    int nd = 0;
    Index dims[kMaxDimensions];

 private:
    template <class Size>
    void assign(const Size* sizes, int n) {
        nd = n;
        for (int i = 0; i < n; ++i) dims[i] = sizes[i];
    }
};
std::string text_of(const Shape& shape);

// The memory an array can touch, for overlap checks; empty and new arrays touch none that matters.
struct Region : Value {
    std::uintptr_t lo = 0;
    std::uintptr_t hi = 0;
};

// An input as kernels see it: a vector is one row, leading axes are collapsed to rows, strides count
// elements.
struct Input {
    const float* data = nullptr;  // of float32
    const BFloat16* data16 = nullptr;
    Dtype dtype = Dtype::float32;
    Index rows = 0, cols = 0;
    Index row = 0, col = 1;
    Region region{};
    Shape shape{};
};

struct Output {
    float* data = nullptr;  // of float32
    BFloat16* data16 = nullptr;
    Dtype dtype = Dtype::float32;
    Index rows = 0, cols = 0;
    Index row = 0;
    Region region{};
    py::object object{};  // what the caller gets: the array as it was given, or a new ndarray

    PyObject* release() { return object.release().ptr(); }
};

// strided: any element strides, zero and negative too. rows: contiguous columns, any distance between rows.
enum class Layout { strided, rows };

void load_numpy();  // once, at import

Input read_matrix(Call& call, const Value& value, Layout layout, Dtypes dtypes = Dtypes::float32);  // 2-D
Input read_rows(Call& call, const Value& value);             // (..., cols), rows of contiguous columns
Input read_vector(Call& call, const Value& value, Index n);  // (n,), contiguous
Input read_flat(Call& call, const Value& value);             // any dimensions, one contiguous row
void require_shape(const Call& call, const Value& value, const Shape& got, const Shape& expected);

// A given array must have `shape`; None makes a new one, of dtype `fresh`.
Output write_rows(Call& call, const Value& value, const Shape& shape, Dtypes dtypes = Dtypes::float32,
                  Dtype fresh = Dtype::float32);
Output write_flat(Call& call, const Value& value, const Shape& shape);

// What a function of several results returns, None for those not wanted. Made before the kernels run: nothing
// may fail after an array has changed.
py::object results(std::initializer_list<const Output*> outputs);
py::object results(double value, const Output& output);  // after the kernels, so `output` must be a new array

// An array that is read and written in place, such as a parameter: given and C-contiguous.
Output update_flat(Call& call, const Value& value, Shape& shape);

// The argument as an ndarray that hides no mask, for reading, or null; every further check is the caller's.
const ArrayStruct* array_or_null(Call& call, const Value& value);
std::string dtype_text(const ArrayStruct* array);

// A list or tuple as a tuple that nobody can change during the call, which keeps it.
PyObject* fixed_items(Call& call, const Value& value);

// The items of `out=(a, b, ...)`: `count` arrays or Nones; all None if `out` is None.
class OutItems {
 public:
    OutItems(Call& call, const Value& value, int count);
    Value operator[](int i) const { return {items_ ? PyTuple_GET_ITEM(items_, i) : Py_None, "out", i}; }

 private:
    PyObject* items_ = nullptr;
};

// Raises if the two share memory; rows that interleave without touching are told apart.
void check_ranges_apart(const Call& call, const Region& out, const Region& other);

inline void check_apart(const Call& call, const Region& out, const Region& other) {
    if (out.lo < other.hi && other.lo < out.hi) check_ranges_apart(call, out, other);
}

template <class... Others>
void check_apart_from(const Call& call, const Output& out, const Others&... others) {
    (check_apart(call, out.region, others.region), ...);
}

}  // namespace fastnn::bind

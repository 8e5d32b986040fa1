// The two dtypes that kernels compute with. NumPy has no bfloat16 of its own: it is the dtype of ml_dtypes,
// which is imported only for the first array that needs it.
#pragma once

#include "bind/fastcall.h"
#include "core/types.h"

namespace fastnn::bind {

enum class Dtype { float32, bfloat16 };
enum class Dtypes { float32, bfloat16_too };  // what a function takes

constexpr Py_ssize_t size_of(Dtype dtype) {
    return dtype == Dtype::float32 ? sizeof(float) : sizeof(BFloat16);
}
constexpr const char* name_of(Dtype dtype) { return dtype == Dtype::float32 ? "float32" : "bfloat16"; }

bool is_bfloat16(PyObject* descr);  // false where ml_dtypes was never imported: no such array exists then

// NumPy's descriptor, borrowed; `value` is the array that needs it. ImportError where ml_dtypes is not
// installed.
PyObject* bfloat16_descr(const Call& call, const Value& value);

// The same for memory of a device, which NumPy never computes with: two bytes, without ml_dtypes.
PyObject* device_bfloat16_descr();

Dtype read_dtype(const Call& call, const Value& value);  // of an argument such as out_dtype

}  // namespace fastnn::bind

// An ndarray over memory that another library describes.
#pragma once

#include <cstdint>

#include "bind/fastcall.h"

namespace fastnn::bind {

struct Memory {
    int nd;
    const std::int64_t* shape;
    const std::int64_t* strides;  // null: compact, in C order
    Py_ssize_t stride_unit;       // bytes
    std::uintptr_t start;         // may be 0 if the size is 0
    std::uint64_t offset;         // of the first element, in bytes
    bool writable;
};

// Kept by the call; `owner` is what keeps the memory alive. Raises for geometry that memory cannot have.
PyObject* view_of(Call& call, const Value& value, const Memory& memory, py::object descr, py::object owner);

}  // namespace fastnn::bind

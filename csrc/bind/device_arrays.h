// Arrays in the device's memory, by `__cuda_array_interface__` (CuPy, PyTorch, Numba).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bind/fastcall.h"
#include "core/cuda_kernels.h"

namespace fastnn::bind {

// What an array says of itself.
struct CudaInterface {
    std::string type;  // as NumPy's typestr
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> strides;  // in bytes; empty: contiguous
    std::uintptr_t data;
    bool read_only, masked;
    std::optional<std::uintptr_t> stream;  // 0: the default one
};
// Throws std::invalid_argument where it is malformed.
CudaInterface cuda_interface_of(py::handle object);

// An ndarray over memory that no code of the host may touch, kept by the call, which enters the device; null
// for an object without the interface.
PyObject* array_of_interface(Call& call, const Value& value);

struct DeviceArray {
    void* data = nullptr;
    Number number = Number::float32;
    std::vector<Index> shape;
    std::vector<Index> strides;  // in numbers; empty: contiguous
    bool contiguous = true;
};

bool is_device_array(py::handle object);
// Throws std::invalid_argument for what kernels cannot read. Nobody waits for the stream that it names: the
// caller's work and fastnn's are on one stream.
DeviceArray device_array(py::handle object);

// The table of `_cuda`, which outlives the capsule; ImportError where it is of another build.
const CudaKernels* cuda_kernels_of(const py::capsule& capsule);

}  // namespace fastnn::bind

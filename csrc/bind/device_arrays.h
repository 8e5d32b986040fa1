// Arrays in the device's memory, by `__cuda_array_interface__` (CuPy, PyTorch, Numba).
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "core/cuda_kernels.h"

namespace fastnn::bind {

namespace py = pybind11;

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

// The table of `_cuda`; ImportError where it is of another build.
const CudaKernels& cuda_kernels_of(const py::capsule& capsule);

}  // namespace fastnn::bind

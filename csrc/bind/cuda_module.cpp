// The extension `_cuda`: the capsule with the kernels, and the device in words and numbers. It is a module of
// its own, so that fastnn imports where there is no CUDA.
#include <pybind11/pybind11.h>

#include "core/cuda_kernels.h"

namespace py = pybind11;

namespace {

py::dict device() {
    const fastnn::CudaDevice d = fastnn::cuda_device();
    py::dict info;
    info["name"] = d.name;
    info["index"] = d.index;
    info["compute_capability"] = py::make_tuple(d.capability / 10, d.capability % 10);
    info["multiprocessors"] = d.multiprocessors;
    info["memory_bytes"] = d.memory_bytes;
    info["driver"] = py::make_tuple(d.driver / 1000, d.driver % 1000 / 10);
    info["runtime"] = py::make_tuple(d.runtime / 1000, d.runtime % 1000 / 10);
    info["large_products"] = fastnn::cuda_product_library();
    return info;
}

py::tuple transfer_bytes() {
    const fastnn::CudaTransfers t = fastnn::cuda_transfers();
    return py::make_tuple(t.to_host, t.to_device);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.attr("kernels") = py::capsule(&fastnn::cuda_kernels(), fastnn::kCudaCapsule);
    m.def("why_not", fastnn::cuda_why_not, "Why no kernel can run; empty where they can.");
    m.def("device", device, "The current device.");
    m.def("transfer_bytes", transfer_bytes, "Bytes copied to the host and to the device.");
}

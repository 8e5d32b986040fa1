#include <cstring>

#include "bind/bind.h"
#include "bind/device_arrays.h"
#include "core/cuda_kernels.h"

namespace fastnn::bind {

// The tables of two builds differ in what they hold and in what their arguments mean.
const CudaKernels* cuda_kernels_of(const py::capsule& capsule) {
    if (std::strcmp(capsule.name() != nullptr ? capsule.name() : "", kCudaCapsule) != 0)
        throw py::import_error("fastnn._cuda: its capsule is not named " + std::string(kCudaCapsule));
    const CudaKernels* const kernels = capsule.get_pointer<CudaKernels>();
    const std::string theirs = kernels->build_id;
    if (theirs != FASTNN_BUILD_ID)
        throw py::import_error("fastnn._cuda was built from other sources (" + theirs +
                               ") than fastnn._core (" FASTNN_BUILD_ID "): install fastnn anew");
    return kernels;
}

void bind_cuda(py::module_& m) {
    m.def(
        "check_cuda", [](const py::capsule& kernels) { cuda_kernels_of(kernels); }, py::arg("kernels"),
        "Refuses the kernels of a _cuda module of another build.");
}

}  // namespace fastnn::bind

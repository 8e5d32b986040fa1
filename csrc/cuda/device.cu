// What device there is, and why it cannot be used.
#include <cuda_runtime.h>

#include <string>

#include "core/cuda_kernels.h"
#include "cuda/built_for.h"

namespace fastnn {
namespace {

std::string dotted(int version, int unit) {
    return std::to_string(version / unit) + "." + std::to_string(version % unit * 10 / unit);
}

}  // namespace

std::string cuda_why_not() {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return "no NVIDIA driver is installed here (libcuda.so.1 was not found)";
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorInsufficientDriver)
        return "the NVIDIA driver is for CUDA " + dotted(driver, 1000) + ", fastnn was built with CUDA " +
               dotted(CUDART_VERSION, 1000) + ": install a newer driver";
    if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
        return "the NVIDIA driver finds no GPU (is CUDA_VISIBLE_DEVICES set?)";
    int device = 0;
    cudaDeviceProp properties{};
    cudaError_t problem = status;
    if (problem == cudaSuccess) problem = cudaGetDevice(&device);
    if (problem == cudaSuccess) problem = cudaGetDeviceProperties(&properties, device);
    if (problem != cudaSuccess) return std::string("CUDA says: ") + cudaGetErrorString(problem);
    return BuiltFor(FASTNN_CUDA_BUILT, FASTNN_CUDA_PTX)
        .why_not_on(properties.major * 10 + properties.minor, properties.name);
}

CudaDevice cuda_device() {
    CudaDevice d{};
    cudaDeviceProp properties{};
    cudaGetDevice(&d.index);
    cudaGetDeviceProperties(&properties, d.index);
    d.name = properties.name;
    d.capability = properties.major * 10 + properties.minor;
    d.multiprocessors = properties.multiProcessorCount;
    d.memory_bytes = properties.totalGlobalMem;
    cudaDriverGetVersion(&d.driver);
    cudaRuntimeGetVersion(&d.runtime);
    return d;
}

}  // namespace fastnn

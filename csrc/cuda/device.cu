// What device there is, and why it cannot be used.
#include <cuda_runtime.h>

#include <sstream>
#include <string>
#include <vector>

#include "core/cuda_kernels.h"

namespace fastnn {
namespace {

// Architectures with code of their own, as "80-90": nvcc would take a comma for the end of the definition.
std::vector<int> built_for() {
    std::vector<int> found;
    std::istringstream text(FASTNN_CUDA_BUILT);
    for (std::string one; std::getline(text, one, '-');) found.push_back(std::stoi(one));
    return found;
}
constexpr int kPtx = FASTNN_CUDA_PTX;  // and the one that newer devices translate

std::string dotted(int version, int unit) {
    return std::to_string(version / unit) + "." + std::to_string(version % unit * 10 / unit);
}

// Code runs on its own architecture and on later ones of the same first digit; PTX on every later one.
bool runs_on(int capability) {
    for (const int built : built_for())
        if (built / 10 == capability / 10 && built <= capability) return true;
    return kPtx <= capability;
}

std::string why_not_on(int capability, const char* name) {
    if (runs_on(capability)) return "";
    std::string text = std::string("the device ") + name + " is sm_" + std::to_string(capability) +
                       "; this build holds code for";
    for (const int built : built_for()) text += " sm_" + std::to_string(built);
    return text + " and PTX for what comes after sm_" + std::to_string(kPtx);
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
    return why_not_on(properties.major * 10 + properties.minor, properties.name);
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

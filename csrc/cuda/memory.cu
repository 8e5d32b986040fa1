// Memory of the device and copies. All copies between host and device go through here, so that they
// can be counted.
#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cuda/entries.h"
#include "cuda/product_library.h"

namespace fastnn {
namespace {

std::atomic<std::uint64_t> bytes_to_device{0};
std::atomic<std::uint64_t> bytes_to_host{0};

std::size_t count(Index bytes) { return static_cast<std::size_t>(bytes); }
cudaStream_t on(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int cuda_allocate(void** memory, Index bytes) {
    return static_cast<int>(cudaMalloc(memory, count(bytes > 0 ? bytes : 1)));
}

int cuda_release(void* memory) { return static_cast<int>(cudaFree(memory)); }

int cuda_borrow(void** memory, Index bytes, void* stream) {
    return static_cast<int>(cudaMallocAsync(memory, count(bytes > 0 ? bytes : 1), on(stream)));
}

int cuda_give_back(void* memory, void* stream) { return static_cast<int>(cudaFreeAsync(memory, on(stream))); }

int cuda_to_device(void* to, const void* from, Index row_bytes, Index row_stride, Index rows, void* stream) {
    const Index bytes = rows * row_bytes;
    if (bytes == 0) return 0;
    bytes_to_device += static_cast<std::uint64_t>(bytes);
    if (rows == 1 || row_stride == row_bytes)
        return static_cast<int>(cudaMemcpyAsync(to, from, count(bytes), cudaMemcpyHostToDevice, on(stream)));
    return static_cast<int>(cudaMemcpy2DAsync(to, count(row_bytes), from, count(row_stride), count(row_bytes),
                                              count(rows), cudaMemcpyHostToDevice, on(stream)));
}

int cuda_to_host(void* to, const void* from, Index bytes, void* stream) {
    bytes_to_host += static_cast<std::uint64_t>(bytes);
    return static_cast<int>(cudaMemcpyAsync(to, from, count(bytes), cudaMemcpyDeviceToHost, on(stream)));
}

int cuda_wait(void* stream) { return static_cast<int>(cudaStreamSynchronize(on(stream))); }

const char* cuda_message(int status) {
    if (status == kNoTensorCores)
        return "the device has no tensor cores for bfloat16 or TF32, which come with compute capability 8.0";
    if (status >= kLibraryStatus) return library_message(status);
    return cudaGetErrorString(static_cast<cudaError_t>(status));
}

CudaTransfers cuda_transfers() { return {.to_host = bytes_to_host, .to_device = bytes_to_device}; }

}  // namespace fastnn

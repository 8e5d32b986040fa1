// What the tests call: an operation of csrc/cuda by its number, with its argument struct as Python laid it
// out, and the table for fastnn._core.
#include <cuda_runtime.h>

#include <array>
#include <cstdio>
#include <string>

#include "cuda/built_for.h"
#include "cuda/entries.h"
#include "shim.h"

using namespace fastnn;

namespace {

template <class Args>
struct Call {
    static int run(const void* args, cudaStream_t stream) {
        return cuda_kernels().entry<Args>()(*static_cast<const Args*>(args), stream);
    }
};
struct Operation {
    std::size_t size;
    int (*run)(const void* args, cudaStream_t stream);
};

// In the order of the table, then what they point to.
template <class... Args>
constexpr auto operations(const CudaEntries<Args...>*) {
    return std::array<Operation, sizeof...(Args) + 5>{{{sizeof(Args), Call<Args>::run}...,
                                                       {sizeof(UpdateTensor), nullptr},
                                                       {sizeof(UpdateOptions), nullptr},
                                                       {sizeof(RowSource), nullptr},
                                                       {sizeof(Targets), nullptr},
                                                       {sizeof(CudaRun), nullptr}}};
}
constexpr auto kOperations = operations(static_cast<const decltype(CudaKernels::entries)*>(nullptr));

}  // namespace

extern "C" {

std::size_t shim_size(int number) { return kOperations[static_cast<std::size_t>(number)].size; }

// The status; `failure` says what the shim found wrong, at most `size` characters of it.
int shim_run(int operation, const void* args, int schedule, char* failure, std::size_t size) {
    shim::set_schedule(static_cast<shim::Schedule>(schedule));
    const int status = kOperations[static_cast<std::size_t>(operation)].run(args, nullptr);
    std::snprintf(failure, size, "%s", shim::take_failure().c_str());
    return status;
}

// The status of an operation that a graph of the caller's own captures and replays once.
int shim_capture(int operation, const void* args) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
    const int status = kOperations[static_cast<std::size_t>(operation)].run(args, stream);
    cudaStreamEndCapture(stream, &graph);
    cudaGraphLaunch(graph, nullptr);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    return status;
}

// Of what follows: programs, which call the table.
void shim_schedule(int schedule) { shim::set_schedule(static_cast<shim::Schedule>(schedule)); }

const char* shim_message(int status) { return cuda_kernels().message(status); }
// What a build for these architectures says of a device.
const char* shim_why_not_on(const char* built, int ptx, int device, const char* name) {
    static std::string said;
    said = BuiltFor(built, ptx).why_not_on(device, name);
    return said.c_str();
}
const char* shim_product_library() {
    static const std::string about = cuda_product_library();
    return about.c_str();
}
const void* shim_table() { return &cuda_kernels(); }
std::uint64_t shim_to_host() { return cuda_transfers().to_host; }
std::uint64_t shim_to_device() { return cuda_transfers().to_device; }
void shim_capability(int major) { shim::capability = major; }
int shim_borrowed() { return shim::borrowed; }
int shim_waits() { return shim::waits; }
// Whether work is put off until somebody waits.
void shim_puts_off(int whether) {
    shim::catch_up();
    shim::puts_off = whether != 0;
}
void shim_catch_up() { shim::catch_up(); }
// Of a graph's launches; what is drawn begins anew, the same each time.
void shim_order(int order) {
    shim::order = static_cast<shim::Order>(order);
    shim::draws.seed();
}
// Of the last graph that was made: its launches, and those of its longest path.
std::size_t shim_nodes() { return shim::last_nodes; }
std::size_t shim_path() { return shim::last_path; }
const void* shim_last_stream() { return shim::last_stream; }
}

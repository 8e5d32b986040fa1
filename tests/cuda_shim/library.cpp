// What the tests call: an operation of csrc/cuda by its number, with its argument struct as Python laid it
// out.
#include <cstdio>

#include "cuda/entries.h"
#include "shim.h"

using namespace fastnn;

namespace {

// One of each struct, in the order of tests/cuda_shim/shim.py.
constexpr std::size_t kSizes[] = {
    sizeof(ActivationArgs), sizeof(ActivationBackwardArgs), sizeof(DropoutArgs),
    sizeof(ColumnSumArgs),  sizeof(BatchNormArgs),          sizeof(BatchNormBackwardArgs),
    sizeof(SoftmaxArgs),    sizeof(PointLossArgs),          sizeof(GemmArgs),
    sizeof(UpdateArgs),     sizeof(UpdateTensor),           sizeof(UpdateOptions)};

template <class Args>
const Args& as(const void* p) {
    return *static_cast<const Args*>(p);
}

int run(int operation, const void* p, const CudaWorkspace& workspace) {
    switch (operation) {
        case 0:
            return cuda_activation(as<ActivationArgs>(p), nullptr);
        case 1:
            return cuda_activation_backward(as<ActivationBackwardArgs>(p), nullptr);
        case 2:
            return cuda_dropout(as<DropoutArgs>(p), nullptr);
        case 3:
            return cuda_column_sum(as<ColumnSumArgs>(p), nullptr);
        case 4:
            return cuda_batch_norm(as<BatchNormArgs>(p), nullptr);
        case 5:
            return cuda_batch_norm_backward(as<BatchNormBackwardArgs>(p), nullptr);
        case 6:
            return cuda_softmax_cross_entropy(as<SoftmaxArgs>(p), nullptr);
        case 7:
            return cuda_point_loss(as<PointLossArgs>(p), nullptr);
        case 8:
            return cuda_gemm(as<GemmArgs>(p), nullptr);
        default:
            return cuda_update(as<UpdateArgs>(p), nullptr, workspace);
    }
}

}  // namespace

extern "C" {

std::size_t shim_size(int number) { return kSizes[number]; }

// The status; `failure` says what the shim found wrong, at most `size` characters of it.
int shim_run(int operation, const void* args, void* memory, std::int64_t bytes, int schedule, char* failure,
             std::size_t size) {
    shim::set_schedule(static_cast<shim::Schedule>(schedule));
    const int status = run(operation, args, {memory, bytes});
    std::snprintf(failure, size, "%s", shim::take_failure().c_str());
    return status;
}
}

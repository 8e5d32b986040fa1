#include "bind/arrays.h"
#include "bind/bind.h"

PYBIND11_MODULE(_core, m) {
    using namespace fastnn::bind;
    load_numpy();
    bind_runtime(m);
    bind_gemm(m);
    bind_activation(m);
    bind_dropout(m);
    bind_batchnorm(m);
    bind_scaling(m);
    bind_loss(m);
    bind_scores(m);
    bind_updates(m);
    bind_rows(m);
    bind_optimizer(m);
    bind_program(m);
    bind_device_program(m);
    bind_cuda(m);
}

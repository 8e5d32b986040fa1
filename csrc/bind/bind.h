// What module.cpp lists: every bind_<family>.cpp adds its functions to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace fastnn::bind {

void bind_gemm(pybind11::module_& m);
void bind_activation(pybind11::module_& m);
void bind_dropout(pybind11::module_& m);
void bind_scaling(pybind11::module_& m);
void bind_batchnorm(pybind11::module_& m);
void bind_loss(pybind11::module_& m);
void bind_scores(pybind11::module_& m);
void bind_updates(pybind11::module_& m);
void bind_rows(pybind11::module_& m);
void bind_program(pybind11::module_& m);
void bind_device_program(pybind11::module_& m);
void bind_optimizer(pybind11::module_& m);
void bind_runtime(pybind11::module_& m);
void bind_cuda(pybind11::module_& m);

}  // namespace fastnn::bind

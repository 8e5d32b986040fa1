// Which ISAs this build holds, which of them this CPU and operating system can run, and which one is active.
#pragma once

#include <string>
#include <vector>

#include "core/kernels.h"

namespace fastnn {

const Kernels& kernels();  // the active table

std::vector<std::string> supported_isas();  // best first; "scalar" is always last
std::vector<std::string> built_isas();      // best first
void set_isa(const std::string& name);      // throws std::invalid_argument naming what is possible

}  // namespace fastnn

// The functions of core/functions.h on Vec: exp, expm1_negative, log, sigmoid, tanh, softplus.
#pragma once

#include "core/functions.h"
#include "cpu/vec.h"

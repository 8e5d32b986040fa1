// The functions of core/functions.h on Vec.
#pragma once

#include "core/functions.h"
#include "cpu/vec.h"

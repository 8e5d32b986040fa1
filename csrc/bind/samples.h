// Data matrices as they come: the only arrays of several dtypes that kernels read.
#pragma once

#include "bind/arrays.h"

namespace fastnn::bind {

// Rows of contiguous columns; strides count elements.
struct Samples {
    const void* data = nullptr;
    Element element = Element::float32;
    Index rows = 0, cols = 0;
    Index row = 0;
    Region region{};
    Shape shape{};
};

// (..., cols) of float32, float64 or uint8, native and aligned: two dimensions with any distance between
// rows, or C-contiguous. Anything else raises: fastnn._columns makes it so.
Samples read_samples(Call& call, const Value& value);

inline constexpr Index kNumberBytes[] = {4, 8, 1, 1, 2, 2, 4, 4, 8, 8};  // of each Number

// (rows, ...) of any integers or floats but float16, native and aligned, each row contiguous; of one
// dimension a row is one number. Anything else raises: fastnn._program makes it so.
struct DataRows {
    const void* data = nullptr;
    Number number = Number::float32;
    Index rows = 0, cols = 0;
    Index row = 0;  // numbers from one row to the next
};
DataRows read_any_rows(Call& call, const Value& value);

bool holds_doubles(Call& call, const Value& value);

// n contiguous numbers of float64.
const double* read_doubles(Call& call, const Value& value, Index n);

}  // namespace fastnn::bind

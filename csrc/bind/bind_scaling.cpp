#include <algorithm>
#include <vector>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/samples.h"
#include "core/dispatch.h"

namespace fastnn::bind {
namespace {

constexpr const char* kColumnMomentsDoc = R"(column_moments(x)
--

The mean of each column of ``x`` and the sum of squared differences from it, as float64 arrays ``(mean, squares)``.

``x`` is (rows, columns) of float32, float64 or uint8, at least one row. NaN and infinity make both NaN.
)";

constexpr const char* kScaleColumnsDoc = R"(scale_columns(x, shift, scale, offset, *, out=None)
--

``(x - shift) * scale + offset`` by column, a float32 array; ``x`` is (..., columns) of float32, float64 or uint8.

``shift`` (columns,) is float64 or float32, ``scale`` and ``offset`` are float32; without ``shift`` or ``offset``
(None) nothing is subtracted or added. The difference is formed in double and rounded to float32, product and sum
together are rounded once. ``out`` may be exactly ``x``.
)";

PyObject* column_moments(Call& call) {
    const Samples x = read_samples(call, call[0]);
    if (x.shape.nd != 2 || x.rows == 0) {
        call.value_error(call[0],
                         "must be (rows, columns) with at least one row, got shape " + text_of(x.shape));
    }
    py::array_t<double> mean(x.cols);
    py::array_t<double> squares(x.cols);
    py::object result = py::make_tuple(mean, squares);
    if (x.cols > 0) {
        const ColumnMomentsArgs args{
            .x = x.data,
            .x_row = x.row,
            .rows = x.rows,
            .cols = x.cols,
            .element = x.element,
            .mean = mean.mutable_data(),
            .squares = squares.mutable_data(),
            .partials = reinterpret_cast<double*>(workspace(4 * column_partials(x.rows, x.cols)))};
        Tasks tasks;
        tasks.add(kernels().column_moments, args);
        tasks.run(stream_ns(2.0 * static_cast<double>(x.rows) * static_cast<double>(x.cols)));
    }
    return result.release().ptr();
}

// What the CPU's kernel reads in place of arrays that were not given, or not in double; a GPU's takes null.
struct Missing {
    std::vector<double> shift;
    std::vector<float> offset;
};

const double* shift_of(Call& call, const Value& value, Index n, Missing& missing) {
    if (value.given() && holds_doubles(call, value)) return read_doubles(call, value, n);
    Input narrow;
    if (value.given()) narrow = read_vector(call, value, n);
    if (OnDevice* const device = call.device()) {
        if (!value.given()) return nullptr;
        const WidenArgs args{.x = narrow.data, .y = device->take<double>(n), .n = n};
        device->launch(args);
        return args.y;
    }
    missing.shift.assign(static_cast<std::size_t>(n), 0.0);
    if (value.given()) std::copy(narrow.data, narrow.data + n, missing.shift.begin());
    return missing.shift.data();
}

Input offset_of(Call& call, const Value& value, Index n, Missing& missing) {
    if (value.given()) return read_vector(call, value, n);
    Input none;
    if (call.device() == nullptr) {
        missing.offset.assign(static_cast<std::size_t>(n), -0.0f);  // which keeps the sign of a zero
        none.data = missing.offset.data();
    }
    return none;
}

PyObject* scale_columns(Call& call) {
    enum { kX, kShift, kScale, kOffset, kOut };
    const Samples x = read_samples(call, call[kX]);
    Missing missing;
    const double* shift = shift_of(call, call[kShift], x.cols, missing);
    const Input scale = read_vector(call, call[kScale], x.cols);
    const Input offset = offset_of(call, call[kOffset], x.cols, missing);
    Output out = write_rows(call, call[kOut], x.shape);
    const bool in_place =
        out.data == x.data && x.element == Element::float32 && (out.row == x.row || x.rows == 1);
    if (!in_place) check_apart(call, out.region, x.region);
    check_apart_from(call, out, scale, offset);
    const ScaleColumnsArgs args{.x = x.data,
                                .x_row = x.row,
                                .element = x.element,
                                .y = out.data,
                                .y_row = out.row,
                                .rows = x.rows,
                                .cols = x.cols,
                                .shift = shift,
                                .scale = scale.data,
                                .offset = offset.data};
    Tasks tasks(call);
    tasks.add(kernels().scale_columns, args);
    tasks.run(stream_ns(2.0 * static_cast<double>(x.rows) * static_cast<double>(x.cols)));
    return out.release();
}

}  // namespace

void bind_scaling(py::module_& m) {
    add_function<column_moments>(m, kColumnMomentsDoc);
    add_function<scale_columns>(m, kScaleColumnsDoc, Places::device_too);
}

}  // namespace fastnn::bind

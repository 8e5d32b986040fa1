#include "bind/loss_ends.h"

#include <vector>

#include "bind/labels.h"
#include "bind/samples.h"

namespace fastnn::bind {

LossEnds::LossEnds(Call& call, Index rows, const Value& sample_weight, const Input& weight)
    : call_(call), device_(*call.device()), weight_value_(sample_weight) {
    state_.run.refused = -1;
    state_.targets.weight = weight.data;
    begin_.rows = rows;
    begin_.weight = weight.data != nullptr ? device_.take<float>(rows) : nullptr;
}

std::int64_t* LossEnds::take_labels(const Value& labels, Index classes, std::optional<std::int64_t> ignored) {
    const DataRows ids = read_any_rows(call_, labels);
    labels_ = labels;
    state_.targets.labels = ids.data;
    state_.targets.label_kind = ids.number;
    state_.targets.label_stride = ids.row;
    begin_.labels = device_.take<std::int64_t>(begin_.rows);
    begin_.classes = classes;
    begin_.ignores = ignored.has_value();
    begin_.ignored = ignored.value_or(0);
    return begin_.labels;
}

const float* LossEnds::begin(double factor, double divisor) {
    State* const state = device_.upload(&state_, 1);
    begin_.run = &state->run;
    begin_.verdict = &state->verdict;
    begin_.targets = &state->targets;
    begin_.scaled = device_.take<float>(begin_.rows);
    begin_.factor = factor;
    begin_.divisor = divisor;
    device_.launch(begin_);
    return begin_.scaled;
}

double LossEnds::end(const double* terms, Index count, bool by_weight, double scale) {
    StepEndArgs end{};
    end.run = begin_.run;
    end.verdict = begin_.verdict;
    end.terms = terms;
    end.term_count = count;
    end.term_weight = by_weight ? begin_.weight : nullptr;
    end.mean_of_terms = by_weight;
    end.scale = scale;
    device_.launch(end);
    device_.download(&state_.run, begin_.run, sizeof(CudaRun));
    if (state_.run.outcome != 0) refuse();
    return state_.run.value;
}

// Copies what was not allowed, for the words in which the CPU says it.
void LossEnds::refuse() {
    const auto rows = static_cast<std::size_t>(begin_.rows);
    std::vector<std::int64_t> ids(rows);
    if (begin_.labels != nullptr) {
        const auto* given = array_or_null(call_, labels_);
        const auto dtype = py::reinterpret_borrow<py::dtype>(py::handle(given->descr));
        py::array copy(dtype, begin_.rows);
        auto* to = static_cast<char*>(copy.mutable_data());
        for (Index i = 0; i < begin_.rows; ++i)
            device_.download(to + i * dtype.itemsize(), given->data + i * given->strides[0],
                             dtype.itemsize());
        const std::optional<std::int64_t> ignored =
            begin_.ignores ? std::optional(begin_.ignored) : std::nullopt;
        const Value value{copy.ptr(), labels_.name};
        const Index skipped = read_class_ids(call_, value, begin_.rows, begin_.classes, ignored, ids.data());
        check_any_counted(call_, labels_, begin_.rows - skipped, ignored);
    }
    std::vector<float> weight(rows, 1.0f);
    if (begin_.weight != nullptr)
        device_.download(weight.data(), begin_.weight, begin_.rows * Index{sizeof(float)});
    Input input;
    input.data = weight.data();
    input.cols = begin_.rows;
    total_weight(call_, weight_value_, input, begin_.labels != nullptr ? ids.data() : nullptr);
    call_.value_error("class ids or weights changed during the call");
}

void check_any_counted(const Call& call, const Value& labels, Index counted,
                       std::optional<std::int64_t> ignored) {
    if (counted > 0) return;
    call.value_error(labels, "are all " + std::to_string(*ignored) +
                                 ", which is ignored, and no row is left to average; skip the batch");
}

}  // namespace fastnn::bind

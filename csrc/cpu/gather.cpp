// The rows of a batch, from where they lie in the data set, as float32 side by side.
#include "core/fetch.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

FASTNN_INLINE Index rows_of_chunk(const GatherArgs& g) { return most(stream_chunk(0) / most(g.cols, 1), 1); }

template <class T>
FASTNN_INLINE void gather_rows(const GatherArgs& g, Index begin, Index end) {
    const auto* data = static_cast<const T*>(g.source->data);
    const RowOrder order = g.source->order;
    for (Index i = begin; i < end; ++i) {
        const Index row = order.rows != nullptr ? order.rows[g.first + i] : g.first + i;
        const T* x = data + row * g.source->row;
        if (g.first + i < order.next_rows)
            fetch_row(data + order.next[g.first + i] * g.source->row, g.cols * Index{sizeof(T)});
        float* y = g.y + i * g.cols;
        if constexpr (std::is_same_v<T, float>) {
            each_vector(0, g.cols,
                        [&](Index j, int lanes) FASTNN_BODY { vstore(y + j, vload(x + j, lanes), lanes); });
        } else {
            for (Index j = 0; j < g.cols; ++j) y[j] = static_cast<float>(x[j]);
        }
    }
}

}  // namespace

int gather_chunks(const GatherArgs& g) { return static_cast<int>(ceil_div(g.rows, rows_of_chunk(g))); }

void gather(const GatherArgs& g, int chunk, Scratch&) {
    const Index size = rows_of_chunk(g);
    const Index begin = chunk * size;
    const Index end = least(begin + size, g.rows);
    switch (g.source->number) {
        case Number::float32:
            return gather_rows<float>(g, begin, end);
        case Number::float64:
            return gather_rows<double>(g, begin, end);
        case Number::uint8:
            return gather_rows<std::uint8_t>(g, begin, end);
        case Number::int8:
            return gather_rows<std::int8_t>(g, begin, end);
        case Number::int16:
            return gather_rows<std::int16_t>(g, begin, end);
        case Number::uint16:
            return gather_rows<std::uint16_t>(g, begin, end);
        case Number::int32:
            return gather_rows<std::int32_t>(g, begin, end);
        case Number::uint32:
            return gather_rows<std::uint32_t>(g, begin, end);
        case Number::int64:
            return gather_rows<std::int64_t>(g, begin, end);
        case Number::uint64:
            return gather_rows<std::uint64_t>(g, begin, end);
    }
}

}  // namespace fastnn::FASTNN_NS

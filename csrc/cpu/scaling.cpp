// Passes over the rows of a data matrix of float32, float64 or uint8: sums of each column in double, and
// y = (x - shift) * scale + offset with a shift, a scale and an offset for each column.
//
// The sums of a block of kStatRows rows are those of d = x - first and of d^2, with `first` the first row of
// the block: being one of the rows, it cannot be so far from the others that the sums lose more than
// kStatRows roundings of a double, and a constant column gives exactly 0. Blocks are combined in order.
//
// Arithmetic in double is written as loops over sixteen lanes, which compilers turn into vectors and every
// ISA rounds alike.
#include "cpu/columns.h"
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {
namespace {

// f(static_cast<const T*>(x)) with T the element's type.
template <class F>
FASTNN_INLINE void with_elements(const void* x, Element element, F f) {
    switch (element) {
        case Element::float32:
            return f(static_cast<const float*>(x));
        case Element::float64:
            return f(static_cast<const double*>(x));
        case Element::uint8:
            return f(static_cast<const std::uint8_t*>(x));
    }
}

// Adds n = 4 or 1 rows, from x on and `row` apart, to the sums of sixteen columns.
template <int n, class T>
FASTNN_INLINE void add_rows(const T* __restrict x, Index row, const T* __restrict first,
                            double* __restrict sums, double* __restrict squares) {
    for (int i = 0; i < kLanes; ++i) {
        const double reference = static_cast<double>(first[i]);
        const double a = static_cast<double>(x[i]) - reference;
        if constexpr (n == 1) {
            sums[i] += a;
            squares[i] += a * a;
        } else {
            const double b = static_cast<double>(x[row + i]) - reference;
            const double c = static_cast<double>(x[2 * row + i]) - reference;
            const double d = static_cast<double>(x[3 * row + i]) - reference;
            sums[i] += (a + b) + (c + d);
            squares[i] += (a * a + b * b) + (c * c + d * d);
        }
    }
}

// The first `lanes` of n rows, zeros behind them.
template <int n, class T>
FASTNN_INLINE void copy_rows(const T* x, Index row, int lanes, T (&to)[n * kLanes]) {
    for (int r = 0; r < n; ++r)
        for (int i = 0; i < kLanes; ++i) to[r * kLanes + i] = i < lanes ? x[r * row + i] : T{0};
}

struct Moments {
    double* sums;     // of x - first
    double* squares;  // of (x - first)^2
};

Moments moments_of(const ColumnMomentsArgs& a, const ColumnPlan& p, Index block) {
    double* const first = a.partials + block * p.padded;
    return {first, first + p.blocks * p.padded};
}

template <class T>
FASTNN_FLAT void reduce(const ColumnMomentsArgs a, const T* x, const ColumnPlan p, const Block block) {
    each_stat_block(block, [&](const Block& rows, Index index) FASTNN_BODY {
        const Moments m = moments_of(a, p, index);
        for (Index j = rows.columns.begin;
             j < rows.columns.begin + round_up(rows.columns.end - rows.columns.begin, kLanes); ++j)
            m.sums[j] = m.squares[j] = 0.0;
        const T* const first = x + rows.rows.begin * a.x_row;
        each_rows<4>(rows.rows, [&](Index r, auto n) FASTNN_BODY {
            each_vec(rows.columns, [&](Index j, int lanes) FASTNN_BODY {
                const T* const from = x + r * a.x_row + j;
                if (lanes == kLanes) {
                    add_rows<n>(from, a.x_row, first + j, m.sums + j, m.squares + j);
                } else {
                    T part[n * kLanes];
                    T part_of_first[kLanes];
                    copy_rows<n>(from, a.x_row, lanes, part);
                    copy_rows<1>(first + j, 0, lanes, part_of_first);
                    add_rows<n>(part, kLanes, part_of_first, m.sums + j, m.squares + j);
                }
            });
        });
    });
}

// With e = first row of the block - first row of all, the sums of a block of n rows about the latter are
// sum + n e and squares + e (2 sum + n e).
template <class T>
void combine(const ColumnMomentsArgs& a, const T* x, const ColumnPlan& p, Range columns) {
    const double rows = static_cast<double>(a.rows);
    for (Index j = columns.begin; j < columns.end; ++j) {
        const double reference = static_cast<double>(x[j]);
        double sum = 0.0;
        double squares = 0.0;
        for (Index block = 0; block < p.blocks; ++block) {
            const Moments m = moments_of(a, p, block);
            const Index begin = block * kStatRows;
            const double n = static_cast<double>(least(kStatRows, a.rows - begin));
            const double e = static_cast<double>(x[begin * a.x_row + j]) - reference;
            const double ne = n * e;
            sum += m.sums[j] + ne;
            squares += m.squares[j] + e * (2.0 * m.sums[j] + ne);
        }
        const double rest = squares - sum * (sum / rows);
        a.mean[j] = reference + sum / rows;
        a.squares[j] = rest < 0.0 ? 0.0 : rest;  // rounding may leave a hair below zero; NaN stays
    }
}

// ---- (x - shift) * scale + offset

// x - shift is formed in double, so that neither x nor the shift lose digits before they cancel.
template <class T>
FASTNN_INLINE Vec shifted(const T* x, const double* shift, int lanes) {
    float t[kLanes];
    if (lanes == kLanes) {
        for (int i = 0; i < kLanes; ++i) t[i] = static_cast<float>(static_cast<double>(x[i]) - shift[i]);
    } else {
        for (int i = 0; i < kLanes; ++i)
            t[i] = i < lanes ? static_cast<float>(static_cast<double>(x[i]) - shift[i]) : 0.0f;
    }
    return vload(t);
}

Index rows_per_chunk(const ScaleColumnsArgs& a) {
    constexpr Index kChunkElements = 16 * 1024;
    return most(round_up(ceil_div(kChunkElements, a.cols), 4), a.rows / 65536 + 1);
}

template <class T>
FASTNN_FLAT void scale(const ScaleColumnsArgs a, const T* x, const Range rows) {
    each_rows<4>(rows, [&](Index r, auto n) FASTNN_BODY {
        each_vec({0, a.cols}, [&](Index j, int lanes) FASTNN_BODY {
            const Vec factor = vload(a.scale + j, lanes);
            const Vec offset = vload(a.offset + j, lanes);
            Vec d[n];
            unroll<n>([&](auto i)
                          FASTNN_BODY { d[i] = shifted(x + (r + i) * a.x_row + j, a.shift + j, lanes); });
            unroll<n>([&](auto i) FASTNN_BODY {
                vstore(a.y + (r + i) * a.y_row + j, fma(d[i], factor, offset), lanes);
            });
        });
    });
}

}  // namespace

int column_moments_reduce_chunks(const ColumnMomentsArgs& a) { return phase_chunks(a.rows, a.cols, 0); }
int column_moments_combine_chunks(const ColumnMomentsArgs& a) { return phase_chunks(a.rows, a.cols, 1); }

void column_moments_reduce(const ColumnMomentsArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    with_elements(a.x, a.element, [&](auto* x) FASTNN_BODY {
        if (p.slabs) {
            each_block_of_slab(p, chunk, nullptr, 0, [&](const Block& block) {
                reduce(a, x, p, block);
                combine(a, x, p, block.columns);
            });
        } else {
            reduce(a, x, p, group_of(p, chunk));
        }
    });
}

void column_moments_combine(const ColumnMomentsArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    with_elements(a.x, a.element, [&](auto* x) FASTNN_BODY { combine(a, x, p, combined_by(p, chunk)); });
}

int scale_columns_chunks(const ScaleColumnsArgs& a) {
    return a.cols == 0 ? 0 : static_cast<int>(ceil_div(a.rows, rows_per_chunk(a)));
}

void scale_columns(const ScaleColumnsArgs& a, int chunk, Scratch&) {
    const Index begin = chunk * rows_per_chunk(a);
    const Range rows{begin, least(begin + rows_per_chunk(a), a.rows)};
    with_elements(a.x, a.element, [&](auto* x) FASTNN_BODY { scale(a, x, rows); });
}

}  // namespace fastnn::FASTNN_NS

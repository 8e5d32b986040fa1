// The two ends of a training step. One block each: sums run in the order of the rows, as on the CPU, so one
// thread adds what the others have brought.
#include "core/class_id.h"
#include "core/scores.h"
#include "cuda/entries.h"
#include "cuda/numbers.h"

namespace fastnn {
namespace {

struct Found {
    Index ignored[kThreads];
    bool wrong[kThreads];
    double scale;
    bool halted;
};

FASTNN_RULE Index source_row(const Targets& t, Index i) {
    return t.order.rows != nullptr ? t.order.rows[i] : i;
}

// Takes the class ids and weights of this thread's rows; wrong: one of them is not allowed.
FASTNN_RULE bool take_rows(const StepBeginArgs& a, Index& ignored) {
    const Targets& t = *a.targets;
    bool wrong = false;
    for (Index i = threadIdx.x; i < a.rows; i += kThreads) {
        const Index row = source_row(t, i);
        if (a.labels != nullptr) {
            const auto given = number_at<std::int64_t>(t.labels, t.label_kind, row * t.label_stride);
            a.labels[i] = class_id(given, a.classes, a.ignores, a.ignored);
            ignored += a.labels[i] == kIgnoredLabel;
            wrong = wrong || a.labels[i] == kNoClass;
        }
        if (a.weight != nullptr) {
            const float w = t.weight[row];
            wrong = wrong || !is_weight(w);
            a.weight[i] = w;
        }
    }
    return wrong;
}

__global__ void __launch_bounds__(kThreads) begin(StepBeginArgs a) {
    FASTNN_SHARED(Found, found);
    CudaRun& run = *a.run;
    const auto me = static_cast<int>(threadIdx.x);
    for (Index i = me; i < a.count_total; i += kThreads) a.counts[i] = 0;
    if (run.halted) {
        if (me == 0) a.verdict->refused = true;
        return;
    }
    const auto* record = reinterpret_cast<const std::uint64_t*>(run.records + run.next * a.record_bytes);
    auto* current = reinterpret_cast<std::uint64_t*>(a.current);
    for (Index i = me; i < a.record_bytes / 8; i += kThreads) current[i] = record[i];
    __syncthreads();
    found.ignored[me] = 0;
    found.wrong[me] = take_rows(a, found.ignored[me]);
    __syncthreads();
    if (me == 0) {
        Index ignored = 0;
        bool wrong = false;
        for (int i = 0; i < kThreads; ++i) {
            ignored += found.ignored[i];
            wrong = wrong || found.wrong[i];
        }
        double total = static_cast<double>(a.rows - ignored);
        if (a.weight != nullptr) {
            total = 0.0;
            for (Index i = 0; i < a.rows; ++i)
                if (a.labels == nullptr || a.labels[i] != kIgnoredLabel)
                    total += static_cast<double>(a.weight[i]);
        }
        const bool counts = total > 0.0;
        wrong = wrong || !(counts || a.may_be_empty);
        found.scale = counts ? a.factor / (total * a.divisor) : 0.0;
        found.halted = wrong;
        run.total = total;
        run.halted = wrong;
        run.frozen = run.frozen || wrong;
        if (wrong) run.outcome = 1;
        *a.verdict = {wrong, 0, -1};
        ++run.next;
    }
    __syncthreads();
    if (a.scaled == nullptr || found.halted) return;
    for (Index i = me; i < a.rows; i += kThreads) {
        const double w = a.weight != nullptr ? static_cast<double>(a.weight[i]) : 1.0;
        a.scaled[i] = static_cast<float>(w * found.scale);
    }
}

struct Terms {
    double of[kThreads];
};

// start + term(0) + term(1) + ..., in that order; of the first thread.
template <class Term>
FASTNN_RULE double add_in_order(Terms& terms, double start, Index n, Term term) {
    const auto me = static_cast<int>(threadIdx.x);
    for (Index first = 0; first < n; first += kThreads) {
        if (first + me < n) terms.of[me] = term(first + me);
        __syncthreads();
        const Index left = n - first < kThreads ? n - first : kThreads;
        if (me == 0)
            for (Index i = 0; i < left; ++i) start += terms.of[i];
        __syncthreads();  // before the next round's terms
    }
    return start;
}

FASTNN_RULE double weight_of(const StepEndArgs& a, Index i) {
    return a.weight != nullptr ? static_cast<double>(a.weight[i]) : 1.0;
}

// Each row's weight, and the weight of its hit, join two sums; a row of an ignored label has none.
template <class Hit>
FASTNN_RULE void add_rows(const StepEndArgs& a, Terms& terms, Hit hit) {
    const bool ignores = a.score == Score::hits && a.labels != nullptr;
    const auto counts = [&](Index i) { return !ignores || a.labels[i] != kIgnoredLabel; };
    const double hits = add_in_order(terms, a.scores[0], a.rows,
                                     [&](Index i) { return counts(i) ? weight_of(a, i) * hit(i) : 0.0; });
    const double all =
        add_in_order(terms, a.scores[1], a.rows, [&](Index i) { return counts(i) ? weight_of(a, i) : 0.0; });
    if (threadIdx.x != 0) return;
    a.scores[0] = hits;
    a.scores[1] = all;
}

FASTNN_RULE void add_scores(const StepEndArgs& a, Terms& terms, double total) {
    switch (a.score) {
        case Score::none:
            return;
        case Score::hits:
            return add_rows(a, terms, [&](Index i) {
                const Index truth =
                    a.labels != nullptr ? a.labels[i] : first_largest(a.target + i * a.cols, a.cols);
                return first_largest(a.pred + i * a.cols, a.cols) == truth ? 1.0 : 0.0;
            });
        case Score::sides:
            return add_rows(a, terms, [&](Index i) {
                return sides_of_row(a.pred + i * a.cols, a.target + i * a.cols, a.cols);
            });
        case Score::squares:
            for (Index j = threadIdx.x; j < a.cols; j += kThreads)
                add_column_squares<1>(a.pred, a.target, a.weight, a.rows, a.cols, j, 1, total, a.scores);
            return;  // the weight so far grows when all have read it
    }
}

__global__ void __launch_bounds__(kThreads) end(StepEndArgs a) {
    FASTNN_SHARED(Terms, terms);
    CudaRun& run = *a.run;
    const bool halted = run.halted, refused = a.verdict->refused, keeps = run.keep_refused;
    const double total = run.total;
    if (halted) return;
    if (total == 0.0) {
        if (threadIdx.x == 0) ++run.done;
        return;
    }
    const double sum = add_in_order(terms, 0.0, a.term_count, [&](Index i) {
        return a.term_weight != nullptr ? static_cast<double>(a.term_weight[i]) * a.terms[i] : a.terms[i];
    });
    const bool counts = !refused || keeps;
    if (counts) add_scores(a, terms, total);
    __syncthreads();  // all have read the run
    if (threadIdx.x != 0) return;
    if (counts && a.score == Score::squares) a.scores[0] += total;
    run.value = a.mean_of_terms ? sum / total : sum * a.scale;
    if (run.values != nullptr) run.values[run.next - 1] = run.value;
    if (counts) {
        ++run.done;
        run.sums[0] += total;
        run.sums[1] += total * run.value;
    }
    if (refused) {
        run.outcome = 2;
        run.refused = a.verdict->non_finite;
        run.halted = run.frozen = true;
    }
}

}  // namespace

int cuda_step_begin(const StepBeginArgs& a, void* stream) {
    FASTNN_LAUNCH(begin, 1u, kThreads, stream, a);
    return launched();
}

int cuda_step_end(const StepEndArgs& a, void* stream) {
    FASTNN_LAUNCH(end, 1u, kThreads, stream, a);
    return launched();
}

}  // namespace fastnn

// Whether a short step is shared with the team or runs on its thread alone: what is faster here and now.
//
// How long another core's writes take to read differs by a factor of ten between machines, and what else they
// run changes by the second: the regions of 64-64-64-10 at batch 32 take 20.7 us on two cores of a Zen 3 and
// 24.5 on one, a step 41 us on two of an Emerald Rapids and 21 on one. So now and then a few steps are timed
// both ways, for each batch size and number of threads. The bits are the same either way.
#pragma once

#include <algorithm>

#include "core/types.h"

namespace fastnn::program {

class Pace {
 public:
    // How the next step runs, and whether to tell `took` how long it was.
    bool alone() const { return alone_; }
    bool timed() const { return left_ <= kTimed; }
    // After every step; ns counts where it is timed.
    void took(Index ns) {
        if (timed()) times_[left_ - 1] = ns;
        if (--left_ > 0) return;
        std::nth_element(times_, times_ + kTimed / 2, times_ + kTimed);
        const Index median = times_[kTimed / 2];
        if (!trial_) {
            trial_ = true;
            before_ = median;
            alone_ = !alone_;
            left_ = kSkipped + kTimed;
            return;
        }
        trial_ = false;
        if (median < before_) {
            rest_ = kFirstRest;
        } else {
            alone_ = !alone_;
            rest_ = std::min(4 * rest_, kLongestRest);
        }
        left_ = rest_ + kTimed;
    }

 private:
    static constexpr int kTimed = 9, kSkipped = 4;  // the first ones find their data in another cache
    static constexpr int kFirstRest = 100, kLongestRest = 6400;

    bool alone_ = false, trial_ = false;
    int left_ = kFirstRest + kTimed, rest_ = kFirstRest;
    Index before_ = 0;
    Index times_[kTimed] = {};
};

}  // namespace fastnn::program

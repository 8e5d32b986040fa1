// What csrc/program/pace.h makes of steps of given times.
#include "program/pace.h"

#include <cstdio>

namespace {

int failures = 0;

void check(bool holds, const char* what) {
    if (holds) return;
    std::printf("does not hold: %s\n", what);
    ++failures;
}

struct Steps {
    fastnn::program::Pace pace;
    int alone = 0, timed = 0;

    void run(int count, fastnn::Index shared_ns, fastnn::Index alone_ns) {
        alone = timed = 0;
        for (int i = 0; i < count; ++i) {
            alone += pace.alone();
            timed += pace.timed();
            // Every seventh step is disturbed.
            const fastnn::Index ns = (pace.alone() ? alone_ns : shared_ns) + (i % 7 == 0 ? 1'000'000 : 0);
            pace.took(pace.timed() ? ns : 0);
        }
    }
};

}  // namespace

int main() {
    Steps steps;
    steps.run(100, 40'000, 20'000);
    check(steps.alone == 0, "steps are shared first");
    steps.run(1000, 40'000, 20'000);
    check(steps.alone > 900, "alone where that is faster");
    steps.run(100'000, 40'000, 20'000);
    check(steps.alone > 99'000, "seldom looked at again");
    check(steps.timed < 1000, "seldom timed");
    steps.run(20'000, 10'000, 20'000);
    check(steps.pace.alone() == false, "shared again once that is faster");
    steps.run(100'000, 10'000, 20'000);
    check(steps.alone < 1000, "and seldom looked at again");
    return failures;
}

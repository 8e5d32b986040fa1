// How the shim runs the threads of a block, for the tests.
#pragma once

#include <atomic>
#include <string>

namespace shim {

enum class Schedule : int {
    forward,   // one at a time, in order: each runs until it waits for others
    backward,  // the same from the last thread to the first
    mixed      // those of a few blocks in turn, whoever is drawn
};

void set_schedule(Schedule schedule);
// Seconds without a barrier passed or a block ended, after which the process is given up.
inline std::atomic<int> patience{100};
// Why the last launches failed, empty where they did not; forgets it.
std::string take_failure();

}  // namespace shim

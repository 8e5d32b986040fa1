// How many threads this process may use.
#pragma once

namespace fastnn {

// FASTNN_NUM_THREADS, else OMP_NUM_THREADS (its first number), else the affinity mask capped by the cgroup's
// CPU quota. Throws std::invalid_argument for a FASTNN_NUM_THREADS that is not a whole number from 1 to 1024.
int default_num_threads();

}  // namespace fastnn

#include "core/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace fastnn {
namespace {

int affinity_count() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The quota in CPUs, or 0 for none: cgroup v2 (cpu.max), then v1.
double cgroup_quota() {
    if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2) {
        std::string quota;
        double period = 0;
        if (v2 >> quota >> period && quota != "max" && period > 0) return std::atof(quota.c_str()) / period;
        return 0;
    }
    std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    double quota = 0;
    double period = 0;
    if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) return quota / period;
    return 0;
}

// The leading whole number of an environment variable, or 0 if it is unset, empty or out of 1 .. 1024.
int env_number(const char* text, bool whole_text) {
    if (text == nullptr || *text == '\0') return 0;
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    const bool clean = end != text && (*end == '\0' || (!whole_text && *end == ','));
    return clean && n >= 1 && n <= 1024 ? static_cast<int>(n) : 0;
}

}  // namespace

int default_num_threads() {
    const char* own = std::getenv("FASTNN_NUM_THREADS");
    if (own != nullptr && *own != '\0') {
        const int n = env_number(own, true);
        if (n == 0)
            throw std::invalid_argument(std::string("FASTNN_NUM_THREADS is '") + own +
                                        "', must be a whole number from 1 to 1024");
        return n;
    }
    if (const int n = env_number(std::getenv("OMP_NUM_THREADS"), false); n > 0) return n;
    int n = affinity_count();
    if (const double quota = cgroup_quota(); quota > 0)
        n = std::min(n, std::max(1, static_cast<int>(std::ceil(quota))));
    return n;
}

}  // namespace fastnn

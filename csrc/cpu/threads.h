// Parallel loops on the OpenMP runtime that torch has already loaded.
#pragma once

#include <algorithm>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace vk {

// Calls fn(task, thread) for every task in [0, tasks), 0 <= thread < min(threads, tasks). Tasks are
// handed out as threads become free; fn must not throw.
template <typename F>
void parallel_for(int threads, int tasks, F&& fn) {
#ifdef _OPENMP
    const int team = std::min(threads, tasks);
    if (team > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
        for (int task = 0; task < tasks; ++task)
            fn(task, omp_get_thread_num());
        return;
    }
#else
    (void)threads;
#endif
    for (int task = 0; task < tasks; ++task)
        fn(task, 0);
}

}  // namespace vk

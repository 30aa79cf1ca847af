// What Python passes to the launches, as the launches take it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "error.h"

namespace vk {
namespace cuda {

using Address = uintptr_t;

template <typename T>
T* as(Address address) {
    return reinterpret_cast<T*>(address);
}

inline cudaStream_t as_stream(Address stream) { return as<CUstream_st>(stream); }

template <typename T>
void check_count(const std::vector<T>& list, size_t most, const char* op, const char* what) {
    require(!list.empty() && list.size() <= most, op,
            std::string(what) + ": expected 1 to " + std::to_string(most) + ", got " +
                std::to_string(list.size()) + ".");
}

}  // namespace cuda
}  // namespace vk

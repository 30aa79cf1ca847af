// Failures of the host side of the CUDA core as sentences: operation, configuration, cause.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace vk {
namespace cuda {

inline void check_cuda(cudaError_t status, const char* op, const std::string& config) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(op) + ": the launch with " + config + " failed with " +
                             cudaGetErrorName(status) + " (" + cudaGetErrorString(status) +
                             "); check that this build holds code for the device "
                             "(VOCODER_KERNELS_CUDA_ARCHS) and that no earlier kernel failed.");
}

// Reports the error of the launch just made and clears it, so that it is not blamed on the next.
inline void check_launch(const char* op, const std::string& config) {
    check_cuda(cudaGetLastError(), op, config);
}

inline void require(bool holds, const char* op, const std::string& sentence) {
    if (!holds) throw std::invalid_argument(std::string(op) + ": " + sentence);
}

}  // namespace cuda
}  // namespace vk

// Properties of a device, and the device a launch goes to.
#pragma once

#include <cuda_runtime_api.h>

#include "error.h"

namespace vk {
namespace cuda {

struct DeviceProperties {
    int arch;  // 10 * major + minor
    int multiprocessors;
    int shared_bytes;  // per block, with opt-in
    int shared_bytes_per_multiprocessor;
};

DeviceProperties device_properties(int device);

// Makes `device` current while it lives.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device) {
        check_cuda(cudaGetDevice(&before_), "device", "cudaGetDevice");
        if (device == before_) return;
        check_cuda(cudaSetDevice(device), "device", "index " + std::to_string(device));
        changed_ = true;
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_ = 0;
    bool changed_ = false;
};

}  // namespace cuda
}  // namespace vk

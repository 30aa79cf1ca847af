#include "device.h"

namespace vk {
namespace cuda {

DeviceProperties device_properties(int device) {
    const auto attribute = [device](cudaDeviceAttr which) {
        int value = 0;
        check_cuda(cudaDeviceGetAttribute(&value, which, device), "device",
                   "index " + std::to_string(device));
        return value;
    };
    return {10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                attribute(cudaDevAttrComputeCapabilityMinor),
            attribute(cudaDevAttrMultiProcessorCount),
            attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
            attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)};
}

}  // namespace cuda
}  // namespace vk

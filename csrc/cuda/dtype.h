// Element types as they cross the Python boundary.
#pragma once

namespace vk {
namespace cuda {

enum class DType : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

inline const char* name(DType dtype) {
    switch (dtype) {
        case DType::kFloat32:
            return "fp32";
        case DType::kFloat16:
            return "fp16";
        case DType::kBFloat16:
            return "bf16";
    }
    return "an unknown dtype";
}

}  // namespace cuda
}  // namespace vk

#include "conv_entry.cuh"

namespace vk {
namespace cuda {

const ConvEntry* conv_bf16(ConvSource source, int index) {
    return conv_entries<__nv_bfloat16>(source, index);
}

}  // namespace cuda
}  // namespace vk

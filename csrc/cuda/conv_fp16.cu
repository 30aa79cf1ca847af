#include "conv_entry.cuh"

namespace vk {
namespace cuda {

const ConvEntry* conv_fp16(ConvSource source, int index) {
    return conv_entries<__half>(source, index);
}

}  // namespace cuda
}  // namespace vk

#include "residual_unit_entry.cuh"

namespace vk {
namespace cuda {

UnitKernel unit_snake_bf16(int C, int index) {
    return find_unit_kernel<__nv_bfloat16, true, 16, 24, 32, 48, 64, 96>(C, index);
}

}  // namespace cuda
}  // namespace vk

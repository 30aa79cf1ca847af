#include "residual_branch_entry.cuh"

namespace vk {
namespace cuda {

BranchKernel branch_bf16(int C, int index) {
    return find_branch_kernel<__nv_bfloat16, 16, 24, 32>(C, index);
}

}  // namespace cuda
}  // namespace vk

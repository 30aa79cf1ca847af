#include "cpu/factories.h"
#include "cpu/simd.h"

#define VK_STRING_OF(name) #name
#define VK_STRING(name) VK_STRING_OF(name)

namespace vk {
namespace VK_ISA {

const Kernels& kernels() {
    static const Kernels table = {VK_STRING(VK_ISA), V,          make_conv,  make_upsample,
                                  make_head,         make_snake, make_stage, make_tail};
    return table;
}

}  // namespace VK_ISA
}  // namespace vk

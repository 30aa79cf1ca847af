#include <stdexcept>

#include "cpu/layers.h"

namespace vk {

namespace generic {
const Kernels& kernels();
}
#ifdef VK_HAVE_AVX2
namespace avx2 {
const Kernels& kernels();
}
#endif
#ifdef VK_HAVE_AVX512
namespace avx512 {
const Kernels& kernels();
}
#endif

namespace {

#if defined(VK_HAVE_AVX2) && defined(_MSC_VER)
#include <intrin.h>

bool has(int leaf, int reg, int bit) {
    int r[4];
    __cpuidex(r, leaf, 0);
    return (r[reg] >> bit) & 1;
}
bool os_saves(unsigned long long mask) { return has(1, 2, 27) && (_xgetbv(0) & mask) == mask; }
bool has_avx2() { return has(7, 1, 5) && has(1, 2, 12) && os_saves(0x6); }
bool has_avx512() {
    return has(7, 1, 16) && has(7, 1, 17) && has(7, 1, 30) && has(7, 1, 31) && os_saves(0xe6);
}
#elif defined(VK_HAVE_AVX2)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
#ifdef VK_HAVE_AVX512
    if (has_avx512() && has_avx2()) names.push_back("avx512");
#endif
#ifdef VK_HAVE_AVX2
    if (has_avx2()) names.push_back("avx2");
#endif
    names.push_back("generic");
    return names;
}

const Kernels& kernels(const std::string& isa) {
    for (const std::string& name : available_isas()) {
        if (name != isa) continue;
#ifdef VK_HAVE_AVX512
        if (isa == "avx512") return avx512::kernels();
#endif
#ifdef VK_HAVE_AVX2
        if (isa == "avx2") return avx2::kernels();
#endif
        return generic::kernels();
    }
    throw std::invalid_argument("cpu kernels: instruction set '" + isa +
                                "' is not available on this processor");
}

}  // namespace vk

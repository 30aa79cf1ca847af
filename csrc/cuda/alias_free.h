// Launch interface of the stand-alone anti-aliased snake.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace vk {
namespace cuda {

struct AliasFreeBranch {
    const void* x;          // [B, T_cap, C] input dtype
    void* y;                // [B, T_cap, C] output dtype
    const float* alpha;     // [C]
    const float* inv_beta;  // [C]
};

struct AliasFreeParams {
    AliasFreeBranch branches[3];
    const float* filters;   // [24]: 12 taps up, gain of 2 included, 12 taps down
    const int32_t* ranges;  // [B, 2] frames
    int T_cap, C, scale, extra, tile;
};

// `tile` rows per thread, at least 4. Results do not depend on it.
void launch_alias_free(const AliasFreeParams& params, int branches, int B, DType in, DType out,
                       cudaStream_t stream);

}  // namespace cuda
}  // namespace vk

// The kernels of one element type by channel count and tile; each is its own .cu file so that they
// compile side by side.
#pragma once

#include <array>

#include "residual_branch_kernel.cuh"
#include "residual_branch_table.h"

namespace vk {
namespace cuda {

using BranchKernel = void (*)(BranchParams);

template <typename T, int C, int kIndex>
constexpr BranchKernel branch_kernel() {
    constexpr NarrowTile kTile = branch_tile(C, kIndex);
    return residual_branch_kernel<T, C, kTile.warps_m, kTile.warps_n, kTile.m_tiles,
                                  kTile.ctas_per_sm>;
}

// Null for channel counts without a kernel.
template <typename T, int... kChannels>
BranchKernel find_branch_kernel(int C, int index) {
    BranchKernel found = nullptr;
    const auto consider = [&](int channels, std::array<BranchKernel, kBranchTiles> kernels) {
        if (channels == C) found = kernels[index];
    };
    (consider(kChannels, {branch_kernel<T, kChannels, 0>(), branch_kernel<T, kChannels, 1>(),
                          branch_kernel<T, kChannels, 2>()}),
     ...);
    return found;
}

BranchKernel branch_fp16(int C, int index);
BranchKernel branch_bf16(int C, int index);

}  // namespace cuda
}  // namespace vk

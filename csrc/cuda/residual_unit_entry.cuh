// The kernels of one element type and activation by channel count and tile; each pair is its own
// .cu file so that they compile side by side.
#pragma once

#include "residual_unit_kernel.cuh"
#include "residual_unit_table.h"

namespace vk {
namespace cuda {

using UnitKernel = void (*)(UnitParams);

template <typename T, int C, bool kSnake, int kIndex>
constexpr UnitKernel unit_kernel() {
    constexpr NarrowTile kTile = unit_tile(C, kIndex);
    return residual_unit_kernel<T, C, kSnake, kTile.warps_m, kTile.warps_n, kTile.m_tiles,
                                kTile.ctas_per_sm>;
}

// Null for channel counts without a kernel.
template <typename T, bool kSnake, int... kChannels>
UnitKernel find_unit_kernel(int C, int index) {
    UnitKernel found = nullptr;
    const auto consider = [&](int channels, UnitKernel large, UnitKernel small) {
        if (channels == C) found = index == 0 ? large : small;
    };
    (consider(kChannels, unit_kernel<T, kChannels, kSnake, 0>(),
              unit_kernel<T, kChannels, kSnake, 1>()),
     ...);
    return found;
}

UnitKernel unit_leaky_fp16(int C, int index);
UnitKernel unit_leaky_bf16(int C, int index);
UnitKernel unit_snake_fp16(int C, int index);
UnitKernel unit_snake_bf16(int C, int index);

}  // namespace cuda
}  // namespace vk

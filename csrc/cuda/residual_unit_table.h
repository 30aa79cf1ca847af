// Tile shapes compiled for each channel count, the large one first. The small one keeps more
// multiprocessors busy when the input is short. Adding a channel count is a line here and one in
// residual_unit_launch.cu.
#pragma once

#include "residual_unit.h"

namespace vk {
namespace cuda {

constexpr int kUnitVariants = 2;

constexpr ResidualUnitConfig unit_tiles(int C, bool snake, int variant) {
    const bool large = variant == 0;
    // {warps_m, warps_n, m_tiles, ctas_per_sm}
    switch (C) {
        case 16:
            return large ? ResidualUnitConfig{8, 1, 4, 2} : ResidualUnitConfig{4, 1, 2, 4};
        case 24:
            return large ? ResidualUnitConfig{4, 1, 4, 3} : ResidualUnitConfig{4, 1, 2, 4};
        case 32:
            return large ? ResidualUnitConfig{4, 1, 4, 3} : ResidualUnitConfig{4, 1, 2, 4};
        case 48:
            return large ? ResidualUnitConfig{4, 1, 4, 2} : ResidualUnitConfig{4, 1, 2, 3};
        case 64:
            return large ? ResidualUnitConfig{8, 1, 2, 2} : ResidualUnitConfig{4, 1, 2, 3};
        case 96:
            return snake ? (large ? ResidualUnitConfig{3, 2, 4, 1} : ResidualUnitConfig{3, 2, 2, 2})
                         : (large ? ResidualUnitConfig{4, 2, 4, 1} : ResidualUnitConfig{4, 2, 2, 1});
        default:
            return ResidualUnitConfig{0, 0, 0, 0};
    }
}

}  // namespace cuda
}  // namespace vk

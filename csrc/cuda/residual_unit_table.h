// Tile shapes compiled for each channel count and activation, the large one first; the small one
// keeps more multiprocessors busy when the input is short. Results do not depend on the tile.
#pragma once

#include "residual_unit.h"

namespace vk {
namespace cuda {

constexpr int kUnitTiles = 2;

// warps_m is 0 for channel counts without a kernel.
constexpr NarrowTile unit_tile(int C, int index) {
    const bool large = index == 0;
    // {warps_m, warps_n, m_tiles, ctas_per_sm}
    switch (C) {
        case 16:
            return large ? NarrowTile{8, 1, 6, 2} : NarrowTile{4, 1, 2, 4};
        case 24:
            return large ? NarrowTile{4, 1, 4, 3} : NarrowTile{4, 1, 2, 4};
        case 32:
            return large ? NarrowTile{8, 1, 4, 2} : NarrowTile{4, 1, 3, 4};
        case 48:
            return large ? NarrowTile{6, 1, 3, 2} : NarrowTile{6, 1, 2, 3};
        case 64:
            return large ? NarrowTile{6, 1, 3, 2} : NarrowTile{4, 1, 2, 3};
        case 96:
            return large ? NarrowTile{5, 2, 2, 2} : NarrowTile{3, 2, 2, 3};
        default:
            return NarrowTile{0, 0, 0, 0};
    }
}

}  // namespace cuda
}  // namespace vk

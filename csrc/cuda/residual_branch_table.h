// Tile shapes compiled for each channel count, the largest first. The cost of a CTA's halo wants
// large tiles; smaller ones fill the last wave of a grid, or the device when the input is short.
// Results do not depend on the tile. Turing does not take the first ones.
#pragma once

#include "narrow_tile.h"

namespace vk {
namespace cuda {

constexpr int kBranchTiles = 3;

// warps_m is 0 for channel counts without a kernel.
constexpr NarrowTile branch_tile(int C, int index) {
    // {warps_m, warps_n, m_tiles, ctas_per_sm}
    constexpr NarrowTile k16[kBranchTiles] = {{4, 1, 12, 2}, {4, 1, 11, 2}, {8, 1, 4, 2}};
    constexpr NarrowTile k24[kBranchTiles] = {{8, 1, 8, 1}, {8, 1, 7, 1}, {8, 1, 3, 2}};
    constexpr NarrowTile k32[kBranchTiles] = {{8, 1, 5, 1}, {8, 1, 4, 1}, {8, 1, 3, 2}};
    switch (C) {
        case 16:
            return k16[index];
        case 24:
            return k24[index];
        case 32:
            return k32[index];
        default:
            return NarrowTile{};
    }
}

}  // namespace cuda
}  // namespace vk

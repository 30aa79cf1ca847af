// Tiles of the kernels of few channels.
#pragma once

namespace vk {
namespace cuda {

// A warp owns m_tiles x 16 rows and C / warps_n channels; registers allow ctas_per_sm.
struct NarrowTile {
    int warps_m, warps_n, m_tiles, ctas_per_sm;

    constexpr int threads() const { return 32 * warps_m * warps_n; }
    constexpr int rows() const { return 16 * warps_m * m_tiles; }
};

// Bytes between rows in shared memory.
constexpr int narrow_pitch_bytes(int C) { return ((C / 8) | 1) * 16; }

}  // namespace cuda
}  // namespace vk

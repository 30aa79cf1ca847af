// Stand-alone anti-aliased snake for wide channels, up to three branches in one launch.
//
//   y_j[b, t, c] = down(snake(up(x_j[b, :, c])))[t],  x, y: [B, T_cap, C]
//
// Grid: (ceil(tiles * C / 128), branches, B); a thread owns one channel and walks `tile` rows, so a
// warp reads consecutive channels of one row. About 51 instructions per output and 6 rows of
// warm-up per tile; reads x and writes y once (the warm-up hits L2): bound by DRAM on most devices,
// by FMA on A100. No shared memory.
#pragma once

#include "alias_free.cuh"
#include "alias_free.h"

namespace vk {
namespace cuda {

constexpr int kAliasFreeThreads = 128;
constexpr int kAliasFreeStep = 4;

template <typename In, typename Out>
__global__ void __launch_bounds__(kAliasFreeThreads) alias_free_kernel(AliasFreeParams p) {
    const int item = blockIdx.x * kAliasFreeThreads + threadIdx.x;
    const uint32_t c = item % p.C;
    const RowRange valid = valid_rows(p.ranges, blockIdx.z, p.scale, p.extra);
    const int first = valid.first + item / p.C * p.tile;
    if (first >= valid.last) return;
    const int last = min(first + p.tile, valid.last);

    const AliasFreeBranch& branch = p.branches[blockIdx.y];
    const int64_t row = static_cast<int64_t>(blockIdx.z) * p.T_cap * p.C;
    const char* x = reinterpret_cast<const char*>(static_cast<const In*>(branch.x) + row);
    char* y = reinterpret_cast<char*>(static_cast<Out*>(branch.y) + row);
    // Within a batch row 32-bit byte offsets suffice (the host checks): one instruction per address
    // instead of five.
    const uint32_t C = p.C;
    const auto load = [x, c, C](int t) {
        return to_float(*reinterpret_cast<const In*>(x + (t * C + c) * uint32_t(sizeof(In))));
    };

    const AliasFreeTaps taps(p.filters);
    AliasFreeWalk<kAliasFreeStep, sizeof(Out) == 4, decltype(load)> walk(
        taps, branch.alpha[c], branch.inv_beta[c], valid, load);
    walk.start(first);
    walk.run(first, last, [y, c, C](int t, float v) {
        *reinterpret_cast<Out*>(y + (t * C + c) * uint32_t(sizeof(Out))) = from_float<Out>(v);
    });
}

}  // namespace cuda
}  // namespace vk

// Choice of a convolution's algorithm by the width of a vector, from figures measured on two cores:
// 16 floats (AVX-512) on Zen 5, 8 (AVX2) on Zen 3.
#pragma once

#include <algorithm>

#include "cpu/layers.h"

namespace vk {

// The algorithm that wins where weights are cheap to read, that is for many rows.
inline int algorithm_for_many_rows(const ConvShape& s, int width) {
    const int C = std::max(s.C_in, s.C_out);
    if (s.K == 3 && width > 8) return C >= 32 ? 4 : 1;
    // F(6, 3) would be faster by a sixth, but moves rounding by up to 3e-6 between tile grids.
    if (s.K == 3) return C >= 24 ? 4 : 1;
    if (s.K == 1 || s.K > 24) return 1;
    if (s.K > 12) return 32;
    // Transformed weights are 25 / K (16) or 49 / K (32) times the layer's: memory decides when
    // wide.
    if (C > 384 || s.K <= 5 || (C == 384 && s.K <= 7)) return 16;
    return s.K <= 7 && C < 4 * width ? 16 : 32;
}

// That algorithm if it serves any number of rows; otherwise 0, and the direct one is kept beside
// it. For few rows a transform reads more weights than it saves products: cheap where weights are
// few (C <= 128) or grow little (K = 3). Where they are many, two packings cost too much memory.
inline int algorithm_for_all(const ConvShape& s, int width) {
    const int C = std::max(s.C_in, s.C_out);
    const int algorithm = algorithm_for_many_rows(s, width);
    return C <= 128 || C >= 384 || s.K <= 3 ? algorithm : 0;
}

inline int algorithm_for(const ConvShape& s, int T, int width) {
    return T >= 256 ? algorithm_for_many_rows(s, width) : 1;
}

// Rows per chunk that serve a stage best; 0 where whole layers are as good. At most 8% of rows are
// computed twice, and the four tensors of a chunk take at most 10 MiB (Zen 5), 8 MiB (Zen 3). Whole
// layers are at the mercy of memory: 192 channels took 25% longer with the neighbours busy.
inline int stage_chunk_rows(int C, int width) {
    if (width > 8) return C > 128 ? 0 : C > 96 ? 4608 : C > 16 ? 3072 : 4096;
    return C > 192 ? 0 : C > 64 ? 2304 : 1536;
}

}  // namespace vk

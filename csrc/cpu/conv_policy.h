// Choice of a convolution's algorithm, from figures measured on Zen 5 (AVX-512, two cores).
#pragma once

#include <algorithm>

#include "cpu/layers.h"

namespace vk {

// The algorithm that wins where weights are cheap to read, that is for many rows.
inline int algorithm_for_many_rows(const ConvShape& s) {
    const int C = std::max(s.C_in, s.C_out);
    if (s.K == 3) return C >= 32 ? 4 : 1;
    if (s.K == 1 || s.K > 24) return 1;
    if (s.K > 12) return 32;
    // Transformed weights are 25 / K (16) or 49 / K (32) times the layer's: memory decides when
    // wide.
    if (C >= 384 || s.K <= 5) return 16;
    return s.K <= 7 && C < 64 ? 16 : 32;
}

// That algorithm if it wins for any number of rows; otherwise 0.
inline int algorithm_for_all(const ConvShape& s) {
    const bool small_weights = static_cast<int64_t>(s.C_in) * s.C_out <= 64 * 64;
    const int algorithm = algorithm_for_many_rows(s);
    return small_weights || algorithm == 1 ? algorithm : 0;
}

inline int algorithm_for(const ConvShape& s, int T) {
    return T >= 256 ? algorithm_for_many_rows(s) : 1;
}

// Rows per chunk that serve a stage best; 0 where whole layers are as good. Per core and chunk four
// tensors of at most 10 MiB, and at most 8% of rows computed twice.
inline int stage_chunk_rows(int C) {
    if (C > 128) return 0;
    return C > 96 ? 4608 : C > 16 ? 3072 : 4096;
}

}  // namespace vk

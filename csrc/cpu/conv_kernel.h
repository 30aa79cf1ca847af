// One packed algorithm of a convolution.
#pragma once

#include "cpu/layers.h"

namespace vk {
namespace VK_ISA {

// Weights as the caller has them: [C_out][C_in][K].
struct ConvWeights {
    ConvShape shape;
    const float* w;
    // ceil(C_out / V) * V values.
    const float* bias;
};

class ConvKernel {
  public:
    virtual ~ConvKernel() = default;
    virtual void run(View x, Rows rows, const Epilogue& e, int threads,
                     Workspace& workspace) const = 0;
    // On the calling thread alone, with local_scratch() floats.
    virtual void run_local(View x, Rows rows, const Epilogue& e, float* scratch) const = 0;
    virtual size_t local_scratch() const = 0;
    virtual size_t packed_bytes() const = 0;
};

// algorithm: 1 direct; 4 Toom-Cook, K = 3 alone; 8, 16, 32 the FFT of that length.
std::unique_ptr<ConvKernel> make_conv_kernel(const ConvWeights& weights, int algorithm,
                                             int threads);
bool can_run(const ConvShape& shape, int algorithm);

// The rows of x that output rows [lo, hi) depend on and that exist.
struct InputRows {
    int begin, end;

    InputRows(const ConvShape& s, Rows rows) {
        const int halo = s.dilation * (s.K - 1) / 2;
        begin = rows.lo - halo > 0 ? rows.lo - halo : 0;
        end = rows.hi + halo < rows.T ? rows.hi + halo : rows.T;
    }
};

}  // namespace VK_ISA
}  // namespace vk

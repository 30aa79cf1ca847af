// One packed algorithm of a convolution.
#pragma once

#include "cpu/gemm.h"
#include "cpu/layers.h"

namespace vk {
namespace VK_ISA {

// What a kernel is packed from: [C_out][C_in][K] as the caller has them, or a DirectKernel's
// panels.
struct ConvWeights {
    ConvShape shape;
    const float* w;
    // ceil(C_out / V) * V values.
    const float* bias;
    bool in_panels = false;

    // Weight of input c and tap k for one output: w[c * stride_c + k * stride_k].
    struct Output {
        const float* w;
        ptrdiff_t stride_c, stride_k;
    };
    Output output(int o) const {
        if (!in_panels) return {w + static_cast<size_t>(o) * shape.C_in * shape.K, shape.K, 1};
        const PanelPosition at(o, (shape.C_out + V - 1) / V, shape.K * shape.C_in);
        return {w + at.base, at.step, static_cast<ptrdiff_t>(at.step) * shape.C_in};
    }
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
    // The panels of a direct kernel; null for others.
    virtual const float* panels() const { return nullptr; }
};

// algorithm: 1 direct; 4 and 6 Toom-Cook of that many rows, K = 3 alone; 8, 16, 32 the FFT of
// that length.
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

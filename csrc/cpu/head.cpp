// First convolution: reads the caller's [C_in, T], writes blocked. Few frames and many output
// channels, so the weights are the traffic: each is read once per 4 MiB of input.
#include "cpu/factories.h"
#include "cpu/phases.h"

namespace vk {
namespace VK_ISA {

namespace {

std::vector<Phase> head_phases(int K, int dilation) {
    Phase phase;
    for (int k = 0; k < K; ++k) {
        phase.taps.push_back((k - (K - 1) / 2) * dilation);
        phase.kernel.push_back(k);
    }
    return {phase};
}

class HeadLayer final : public Head {
  public:
    HeadLayer(ConvShape s, const float* w, const float* bias)
        : C_in_(s.C_in),
          C_out_(s.C_out),
          conv_(s.C_in, s.C_out, 1, head_phases(s.K, s.dilation),
                [=](int c, int o, int k) {
                    return w[(static_cast<size_t>(o) * s.C_in + c) * s.K + k];
                }),
          bias_(make_floats(static_cast<size_t>(conv_.vectors()) * V)) {
        for (int o = 0; o < conv_.vectors() * V; ++o)
            bias_[o] = bias && o < C_out_ ? bias[o] : 0.0f;
    }

    void run(const float* x, ptrdiff_t stride_c, ptrdiff_t stride_t, int T, const float* cond,
             View raw, View act, float slope, int threads, Workspace& workspace) override {
        const int padded = conv_.vectors() * V;
        float* bias = workspace.get(padded + conv_.scratch_floats(T, T, threads));
        for (int o = 0; o < padded; ++o)
            bias[o] = bias_[o] + (cond && o < C_out_ ? cond[o] : 0.0f);
        const int lda = conv_.lda();
        const int C_in = C_in_;
        const auto fill = [=](int row, int count, float* a) {
            for (int c = 0; c < C_in; ++c) {
                const float* from = x + c * stride_c + row * stride_t;
                for (int r = 0; r < count; ++r)
                    a[static_cast<ptrdiff_t>(r) * lda + c] = from[r * stride_t];
            }
        };
        conv_.run(T, {raw, act, slope, bias, T}, threads, bias + padded, fill);
    }

    size_t packed_bytes() const override { return conv_.packed_bytes(); }

  private:
    int C_in_, C_out_;
    PhasedConv conv_;
    Floats bias_;
};

}  // namespace

std::shared_ptr<Head> make_head(ConvShape shape, const float* w, const float* bias) {
    return std::make_shared<HeadLayer>(shape, w, bias);
}

}  // namespace VK_ISA
}  // namespace vk

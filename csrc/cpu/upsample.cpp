// Transposed convolution, blocked in, blocked out. 2 C_in C_out K FLOPs per input row; near the
// GEMM peak for wide channels, bound by stores below about 32.
#include "cpu/factories.h"
#include "cpu/phases.h"

namespace vk {
namespace VK_ISA {

namespace {

std::vector<Phase> upsample_phases(int K, int stride, int padding) {
    std::vector<Phase> phases(stride);
    for (int p = 0; p < stride; ++p) {
        phases[p].first = p - padding;
        for (int k = p; k < K; k += stride) {
            phases[p].taps.push_back(-(k - p) / stride);
            phases[p].kernel.push_back(k);
        }
    }
    return phases;
}

class UpsampleLayer final : public Upsample {
  public:
    UpsampleLayer(int C_in, int C_out, int K, int stride, int padding, const float* w,
                  const float* bias)
        : K_(K),
          stride_(stride),
          padding_(padding),
          blocks_in_((C_in + V - 1) / V),
          conv_(
              C_in, C_out, stride, upsample_phases(K, stride, padding),
              [=](int c, int o, int k) { return w[(static_cast<size_t>(c) * C_out + o) * K + k]; }),
          bias_(make_floats(static_cast<size_t>(conv_.vectors()) * V)) {
        for (int o = 0; o < conv_.vectors() * V; ++o)
            bias_[o] = bias && o < C_out ? bias[o] : 0.0f;
    }

    void run(View x, int T, View raw, View act, float slope, int threads,
             Workspace& workspace) override {
        const int T_out = (T - 1) * stride_ - 2 * padding_ + K_;
        float* scratch = workspace.get(conv_.scratch_floats(T, T_out, threads));
        const int lda = conv_.lda();
        const auto fill = [=](int row, int count, float* a) {
            for (int b = 0; b < blocks_in_; ++b) {
                const float* from = x.data + b * x.block + static_cast<ptrdiff_t>(row) * V;
                for (int r = 0; r < count; ++r)
                    store(a + static_cast<ptrdiff_t>(r) * lda + b * V, load(from + r * V));
            }
        };
        conv_.run(T, {raw, act, slope, bias_.get(), T_out}, threads, scratch, fill);
    }

    size_t packed_bytes() const override { return conv_.packed_bytes(); }

  private:
    int K_, stride_, padding_, blocks_in_;
    PhasedConv conv_;
    Floats bias_;
};

}  // namespace

std::shared_ptr<Upsample> make_upsample(int C_in, int C_out, int K, int stride, int padding,
                                        const float* w, const float* bias) {
    return std::make_shared<UpsampleLayer>(C_in, C_out, K, stride, padding, w, bias);
}

}  // namespace VK_ISA
}  // namespace vk

// Last convolution: blocked, activated input to one channel, then tanh or clamp. 2 C K FLOPs a
// sample; bound by reading x.
#include <cmath>

#include "cpu/factories.h"
#include "cpu/simd.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

namespace {

class TailLayer final : public Tail {
  public:
    TailLayer(int C, int K, const float* w, float bias, bool clamp)
        : blocks_((C + V - 1) / V),
          K_(K),
          bias_(bias),
          clamp_(clamp),
          weights_(make_floats(static_cast<size_t>(blocks_) * K * V)) {
        for (int c = 0; c < blocks_ * V; ++c) {
            for (int k = 0; k < K; ++k)
                weights_[(c / V * K + k) * V + c % V] = c < C ? w[c * K + k] : 0.0f;
        }
    }

    void run(View x, int T, float* out, int threads) const override {
        constexpr int task_rows = 1024;
        parallel_for(threads, (T + task_rows - 1) / task_rows, [&](int task, int) {
            const int lo = task * task_rows;
            const int hi = std::min(lo + task_rows, T);
            int t = lo;
            for (; t < hi && t < K_; ++t)
                out[t] = edge_row(x, T, t);
            for (; t + 4 + K_ <= T && t + 4 <= hi; t += 4)
                four_rows(x, t, out + t);
            for (; t < hi; ++t)
                out[t] = edge_row(x, T, t);
            for (t = lo; t < hi; ++t)
                out[t] = finish(out[t] + bias_);
        });
    }

  private:
    // NaN stays NaN in both.
    float finish(float v) const {
        if (!clamp_) return std::tanh(v);
        return v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    }

    float edge_row(View x, int T, int t) const {
        vec s = set1(0.0f);
        for (int b = 0; b < blocks_; ++b) {
            for (int k = 0; k < K_; ++k) {
                const int row = t + k - (K_ - 1) / 2;
                if (row < 0 || row >= T) continue;
                s = fma(load(x.data + b * x.block + static_cast<ptrdiff_t>(row) * V),
                        load(weights_.get() + (b * K_ + k) * V), s);
            }
        }
        return sum(s);
    }

    VK_INLINE void four_rows(View x, int t, float* out) const {
        vec s0 = set1(0.0f), s1 = s0, s2 = s0, s3 = s0;
        for (int b = 0; b < blocks_; ++b) {
            const float* p = x.data + b * x.block + static_cast<ptrdiff_t>(t - (K_ - 1) / 2) * V;
            const float* w = weights_.get() + b * K_ * V;
            for (int k = 0; k < K_; ++k, p += V, w += V) {
                const vec wk = load(w);
                s0 = fma(load(p), wk, s0);
                s1 = fma(load(p + V), wk, s1);
                s2 = fma(load(p + 2 * V), wk, s2);
                s3 = fma(load(p + 3 * V), wk, s3);
            }
        }
        out[0] = sum(s0);
        out[1] = sum(s1);
        out[2] = sum(s2);
        out[3] = sum(s3);
    }

    int blocks_, K_;
    float bias_;
    bool clamp_;
    Floats weights_;
};

}  // namespace

std::shared_ptr<Tail> make_tail(int C, int K, const float* w, float bias, bool clamp) {
    return std::make_shared<TailLayer>(C, K, w, bias, clamp);
}

}  // namespace VK_ISA
}  // namespace vk

// Which algorithm a convolution runs, and when its weights are packed.
#include "cpu/conv_kernel.h"
#include "cpu/conv_policy.h"
#include "cpu/factories.h"
#include "cpu/simd.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

namespace {

int packing_threads() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

class ConvLayer final : public Conv {
  public:
    ConvLayer(ConvShape shape, const float* w, const float* bias, int algorithm)
        : shape_(shape),
          fixed_(algorithm != 0 && can_run(shape, algorithm) ? algorithm
                                                             : algorithm_for_all(shape, V)),
          bias_(make_floats((shape.C_out + V - 1) / V * V)) {
        for (int o = 0; o < (shape.C_out + V - 1) / V * V; ++o)
            bias_[o] = bias && o < shape.C_out ? bias[o] : 0.0f;
        kernel(fixed_ ? fixed_ : 1, {shape_, w, bias_.get()}, packing_threads());
    }

    void run(View x, Rows rows, const Epilogue& e, int threads, Workspace& workspace) override {
        kernel_for(rows.T, threads).run(x, rows, e, threads, workspace);
    }

    void run_local(View x, Rows rows, const Epilogue& e, float* scratch) override {
        kernel_for(rows.T, 1).run_local(x, rows, e, scratch);
    }

    size_t local_scratch() const override {
        size_t most = 0;
        for (const auto& entry : kernels_)
            most = std::max(most, entry.second->local_scratch());
        return most;
    }

    void prepare(int T, int threads) override { kernel_for(T, threads); }

    size_t packed_bytes() const override {
        size_t total = 0;
        for (const auto& entry : kernels_)
            total += entry.second->packed_bytes();
        return total;
    }

  private:
    // Where the choice depends on T, the direct kernel is there from the start. All chunks of an
    // input have the T that was prepared, so that threads find their kernel packed.
    const ConvKernel& kernel_for(int T, int threads) {
        const ConvKernel& first = *kernels_.front().second;
        if (fixed_) return first;
        return kernel(algorithm_for(shape_, T, V), {shape_, first.panels(), bias_.get(), true},
                      threads);
    }

    const ConvKernel& kernel(int algorithm, const ConvWeights& weights, int threads) {
        for (const auto& entry : kernels_) {
            if (entry.first == algorithm) return *entry.second;
        }
        kernels_.emplace_back(algorithm, make_conv_kernel(weights, algorithm, threads));
        return *kernels_.back().second;
    }

    ConvShape shape_;
    // 0 where the choice depends on T.
    int fixed_;
    Floats bias_;
    std::vector<std::pair<int, std::unique_ptr<ConvKernel>>> kernels_;
};

}  // namespace

std::shared_ptr<Conv> make_conv(ConvShape shape, const float* w, const float* bias, int algorithm) {
    return std::make_shared<ConvLayer>(shape, w, bias, algorithm);
}

}  // namespace VK_ISA
}  // namespace vk

// What every convolution kernel does with its sums, row by row; see Epilogue in layers.h.
#pragma once

#include "cpu/layers.h"
#include "cpu/simd.h"

namespace vk {
namespace VK_ISA {

// The epilogue of one channel block from row t0 on, every `dilation` rows.
class BlockEpilogue {
  public:
    BlockEpilogue(const Epilogue& e, int block, ptrdiff_t t0, int dilation, vec bias)
        : step_(static_cast<ptrdiff_t>(dilation) * V),
          residual_(at(e.residual, block, t0)),
          addend_(at(e.addend, block, t0)),
          raw_(at(e.raw, block, t0)),
          act_(at(e.act, block, t0)),
          bias_(bias),
          scaled_(e.scale != 1.0f),
          scale_(set1(e.scale)),
          slope_(set1(e.slope)) {}

    // row(i): sum of row t0 + i * dilation.
    template <typename Row>
    VK_INLINE void store_rows(int rows, Row row) const {
        for (int i = 0; i < rows; ++i) {
            const ptrdiff_t here = i * step_;
            vec v = row(i) + bias_;
            if (residual_) v = v + load(residual_ + here);
            if (addend_) v = v + load(addend_ + here);
            if (scaled_) v = v * scale_;
            if (raw_) store(raw_ + here, v);
            if (act_) store(act_ + here, max(v, v * slope_));
        }
    }

  private:
    static float* at(View view, int block, ptrdiff_t t0) {
        return view.data ? view.data + block * view.block + t0 * V : nullptr;
    }

    ptrdiff_t step_;
    const float* residual_;
    const float* addend_;
    float* raw_;
    float* act_;
    vec bias_;
    bool scaled_;
    vec scale_, slope_;
};

}  // namespace VK_ISA
}  // namespace vk

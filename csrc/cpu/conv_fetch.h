// Fetches rows of blocked tensors into L2, a few lines at a time, while something else computes.
#pragma once

#include "cpu/conv_tiles.h"
#include "cpu/simd.h"

namespace vk {
namespace VK_ISA {

class RowFetch {
  public:
    // Rows [lo, hi) of the tensor's first `blocks` blocks.
    void add(View view, int lo, int hi, int blocks) {
        if (!view.data || lo >= hi) return;
        tensors_[count_++] = {view.data + static_cast<ptrdiff_t>(lo) * V, view.block,
                              static_cast<ptrdiff_t>(hi - lo) * V, blocks};
    }

    void some() {
        for (int line = 0; line < kLines && done_ < count_; ++line) {
            const Tensor& t = tensors_[done_];
            prefetch_far(t.from + block_ * t.block + at_);
            at_ += kLine;
            if (at_ < t.floats) continue;
            at_ = 0;
            if (++block_ < t.blocks) continue;
            block_ = 0;
            ++done_;
        }
    }

  private:
    // Enough for all tensors of a tile while its products are computed, and half of the lines that
    // a core can wait for.
    static constexpr int kLines = 12;
    static constexpr int kLine = 16;
    struct Tensor {
        const float* from;
        ptrdiff_t block, floats;
        int blocks;
    };

    Tensor tensors_[5];
    int count_ = 0;
    int done_ = 0;
    int block_ = 0;
    ptrdiff_t at_ = 0;
};

}  // namespace VK_ISA
}  // namespace vk

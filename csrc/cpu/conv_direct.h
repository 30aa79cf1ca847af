// Direct convolution as a matrix product over (tap, channel block) segments of the blocked input.
//
// Row t of the left operand is x[t + tap][C_in]: consecutive rows are V floats apart, whatever the
// tap and the dilation, so nothing is copied but blocks at the edges of the input.
#pragma once

#include <vector>

#include "cpu/conv_epilogue.h"
#include "cpu/conv_kernel.h"
#include "cpu/gemm.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

class DirectKernel final : public ConvKernel {
  public:
    DirectKernel(const ConvWeights& weights, int threads);

    void run(View x, Rows rows, const Epilogue& e, int threads,
             Workspace& workspace) const override;
    void run_local(View x, Rows rows, const Epilogue& e, float* scratch) const override;
    size_t local_scratch() const override { return edge_floats() + kRowMultiple; }
    size_t packed_bytes() const override { return packed_ * sizeof(float); }
    const float* panels() const override { return weights_.get(); }

  private:
    static constexpr int kBlockRows = 96;

    int halo() const { return shape_.dilation * (shape_.K - 1) / 2; }
    ptrdiff_t edge_block() const { return static_cast<ptrdiff_t>(kBlockRows + 2 * halo()) * V; }
    size_t edge_floats() const { return static_cast<size_t>(edge_block()) * blocks_in_; }
    void row_block(View x, Rows rows, int t0, int count, int first_panel, int panel_count,
                   const Epilogue& e, float* edge) const;
    template <int NV>
    void panel(const Segments& segments, int v, int t0, int count, const Epilogue& e) const;
    // Offsets of the segments for an input with this distance between blocks.
    void segment_offsets(ptrdiff_t block, ptrdiff_t* offsets) const;

    ConvShape shape_;
    int blocks_in_, blocks_out_;
    size_t packed_;
    std::vector<int> panel_starts_;
    Floats weights_, bias_;
};

}  // namespace VK_ISA
}  // namespace vk

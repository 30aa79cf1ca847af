#include "cpu/conv_direct.h"

#include <algorithm>

namespace vk {
namespace VK_ISA {

DirectKernel::DirectKernel(const ConvWeights& weights, int threads)
    : shape_(weights.shape),
      blocks_in_((shape_.C_in + V - 1) / V),
      blocks_out_((shape_.C_out + V - 1) / V),
      packed_(static_cast<size_t>(shape_.K) * shape_.C_in * blocks_out_ * V),
      weights_(make_floats(packed_)),
      bias_(make_floats(static_cast<size_t>(blocks_out_) * V)) {
    for (int v = 0; v < blocks_out_; v += panel_vectors(blocks_out_ - v))
        panel_starts_.push_back(v);
    std::copy(weights.bias, weights.bias + blocks_out_ * V, bias_.get());
    const int K = shape_.K, C_in = shape_.C_in;
    parallel_for(threads, blocks_out_ * V, [&](int o, int) {
        const PanelPosition at(o, blocks_out_, K * C_in);
        const bool exists = o < shape_.C_out;
        const auto from = weights.output(exists ? o : 0);
        for (int c = 0; c < C_in; ++c) {
            for (int k = 0; k < K; ++k)
                weights_[at.at(k * C_in + c)] =
                    exists ? from.w[c * from.stride_c + k * from.stride_k] : 0.0f;
        }
    });
}

void DirectKernel::segment_offsets(ptrdiff_t block, ptrdiff_t* offsets) const {
    for (int k = 0; k < shape_.K; ++k) {
        for (int b = 0; b < blocks_in_; ++b)
            *offsets++ = b * block + (static_cast<ptrdiff_t>(k) * shape_.dilation - halo()) * V;
    }
}

template <int NV>
void DirectKernel::panel(const Segments& segments, int v, int t0, int count,
                         const Epilogue& e) const {
    alignas(64) float sums[kBlockRows * NV * V];
    const float* b = weights_.get() + static_cast<size_t>(v) * V * shape_.K * shape_.C_in;
    panel_product<NV>(segments, b, sums, NV * V, count);
    for (int i = 0; i < NV; ++i) {
        const BlockEpilogue epilogue(e, v + i, t0, 1, load(bias_.get() + (v + i) * V));
        epilogue.store_rows(count, [&](int r) { return load(sums + (r * NV + i) * V); });
    }
}

void DirectKernel::row_block(View x, Rows rows, int t0, int count, int first_panel, int panel_count,
                             const Epilogue& e, float* edge) const {
    const InputRows input(shape_, rows);
    const int begin = t0 - halo(), end = t0 + count + halo();
    View from = x.shifted(static_cast<ptrdiff_t>(t0) * V);
    if (begin < input.begin || end > input.end) {
        for (int b = 0; b < blocks_in_; ++b) {
            for (int t = begin; t < end; ++t) {
                const bool exists = t >= input.begin && t < input.end;
                store(edge + b * edge_block() + static_cast<ptrdiff_t>(t - begin) * V,
                      exists ? load(x.data + b * x.block + static_cast<ptrdiff_t>(t) * V)
                             : set1(0.0f));
            }
        }
        from = {edge + static_cast<ptrdiff_t>(halo()) * V, edge_block()};
    }
    thread_local std::vector<ptrdiff_t> offsets;
    offsets.resize(static_cast<size_t>(shape_.K) * blocks_in_);
    segment_offsets(from.block, offsets.data());
    const Segments segments{from.data,
                            offsets.data(),
                            static_cast<int>(offsets.size()),
                            blocks_in_,
                            V,
                            shape_.C_in - (blocks_in_ - 1) * V,
                            V};
    for (int i = first_panel; i < first_panel + panel_count; ++i) {
        const int v = panel_starts_[i];
        const int nv = panel_vectors(blocks_out_ - v);
        if (nv == 1)
            panel<1>(segments, v, t0, count, e);
        else if (nv == 2)
            panel<2>(segments, v, t0, count, e);
        else
            panel<3>(segments, v, t0, count, e);
    }
}

void DirectKernel::run_local(View x, Rows rows, const Epilogue& e, float* scratch) const {
    for (int t0 = rows.lo; t0 < rows.hi; t0 += kBlockRows)
        row_block(x, rows, t0, std::min(kBlockRows, rows.hi - t0), 0,
                  static_cast<int>(panel_starts_.size()), e, scratch);
}

// Panels outside, rows inside: a panel of weights is read once per thread.
void DirectKernel::run(View x, Rows rows, const Epilogue& e, int threads,
                       Workspace& workspace) const {
    float* edges = workspace.get(edge_floats() * threads);
    const int panels = static_cast<int>(panel_starts_.size());
    const int row_blocks = (rows.hi - rows.lo + kBlockRows - 1) / kBlockRows;
    constexpr size_t l2_bytes = 256 * 1024;
    const bool all_panels = packed_bytes() <= l2_bytes && row_blocks >= 2 * threads;
    const int per_task = all_panels ? panels : 1;
    parallel_for(threads, panels / per_task * row_blocks, [&](int task, int thread) {
        const int t0 = rows.lo + task % row_blocks * kBlockRows;
        row_block(x, rows, t0, std::min(kBlockRows, rows.hi - t0), task / row_blocks * per_task,
                  per_task, e, edges + thread * edge_floats());
    });
}

}  // namespace VK_ISA
}  // namespace vk

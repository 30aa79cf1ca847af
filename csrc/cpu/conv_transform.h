// Convolution by a tile transform: forward per channel block, one matrix product per plane,
// inverse.
//
// Narrow layers give every thread blocks of tiles whose planes stay in its L2 (weights re-read per
// block); wide ones transform many tiles, then hand out planes, so that each weight is read once.
// Every output is summed over C_in in one fixed order, whatever the blocks and threads.
#pragma once

#include <vector>

#include "cpu/conv_epilogue.h"
#include "cpu/conv_fetch.h"
#include "cpu/conv_kernel.h"
#include "cpu/conv_tiles.h"
#include "cpu/gemm.h"
#include "cpu/threads.h"
#include "cpu/transform.h"

namespace vk {
namespace VK_ISA {

template <typename Transform>
class TransformKernel final : public ConvKernel {
  public:
    TransformKernel(const ConvWeights& weights, int threads);

    void run(View x, Rows rows, const Epilogue& e, int threads,
             Workspace& workspace) const override;
    void run_local(View x, Rows rows, const Epilogue& e, float* scratch) const override;
    size_t local_scratch() const override { return block_floats(block_tiles_); }
    size_t packed_bytes() const override { return P * plane_weights() * sizeof(float); }

  private:
    static constexpr int P = Transform::planes;
    // Per thread of a block: half an L2 of 1 MiB, the rest for weights and activations.
    static constexpr int kBlockBytes = 400 * 1024;
    // Per plane of a wide layer, input and output each, beside a panel of weights.
    static constexpr int kPlaneBytes = 320 * 1024;
    // All planes of a wide layer, which share the last-level cache with the tensors.
    static constexpr int kPlanesBytes = 8 << 20;
    static constexpr size_t kWidePlaneBytes = 160 * 1024;
    static constexpr size_t kEdgeFloats = static_cast<size_t>(Transform::rows_in) * V;

    size_t plane_weights() const { return static_cast<size_t>(shape_.C_in) * ldo_; }
    bool wide() const { return plane_weights() * sizeof(float) >= kWidePlaneBytes; }
    // A line more, so that planes do not share cache sets.
    ptrdiff_t plane_floats(int tiles) const {
        return static_cast<ptrdiff_t>(tiles) * std::max(ldi_, ldo_) + kLineFloats;
    }
    size_t block_floats(int tiles) const {
        return (P + 1) * static_cast<size_t>(plane_floats(tiles)) + kEdgeFloats;
    }

    void pack_channel(const ConvWeights& weights, const std::vector<double>& m, int c) const;
    void forward(View x, Rows rows, const TileGrid& grid, int first, int count, float* a,
                 ptrdiff_t plane, float* edge) const;
    template <typename Between>
    void multiply(int p, const float* a, float* y, int tiles, Between&& between) const;
    void inverse(const Epilogue& e, const TileGrid& grid, int first, int count, const float* y,
                 ptrdiff_t plane) const;
    template <typename Between>
    void block(View x, Rows rows, const Epilogue& e, const TileGrid& grid, int first, int count,
               float* scratch, Between&& between) const;
    void run_wide(View x, Rows rows, const Epilogue& e, const TileGrid& grid, int threads,
                  Workspace& workspace) const;

    ConvShape shape_;
    int blocks_in_, blocks_out_, ldi_, ldo_, tile_rows_, block_tiles_;
    Floats weights_, bias_;
};

template <typename Transform>
TransformKernel<Transform>::TransformKernel(const ConvWeights& weights, int threads)
    : shape_(weights.shape),
      blocks_in_((shape_.C_in + V - 1) / V),
      blocks_out_((shape_.C_out + V - 1) / V),
      ldi_(blocks_in_ * V),
      ldo_(blocks_out_ * V),
      tile_rows_(Transform::rows_out(shape_.K)),
      weights_(make_floats(P * plane_weights())),
      bias_(make_floats(ldo_)) {
    const int fit = kBlockBytes / (P * std::max(ldi_, ldo_) * static_cast<int>(sizeof(float)));
    block_tiles_ = std::min(96, std::max(12, fit / 12 * 12));
    std::copy(weights.bias, weights.bias + ldo_, bias_.get());
    const std::vector<double> m = Transform::weights(shape_.K);
    parallel_for(threads, shape_.C_in, [&](int c, int) { pack_channel(weights, m, c); });
}

template <typename Transform>
void TransformKernel<Transform>::pack_channel(const ConvWeights& weights,
                                              const std::vector<double>& m, int c) const {
    const int K = shape_.K;
    std::vector<double> taps(static_cast<size_t>(K) * V);
    for (int block = 0; block < blocks_out_; ++block) {
        for (int i = 0; i < V; ++i) {
            const int o = block * V + i;
            const bool exists = o < shape_.C_out;
            const auto from = weights.output(exists ? o : 0);
            for (int k = 0; k < K; ++k)
                taps[k * V + i] = exists ? from.w[c * from.stride_c + k * from.stride_k] : 0.0;
        }
        float* to = weights_.get() + PanelPosition(block * V, blocks_out_, shape_.C_in).at(c);
        for (int p = 0; p < P; ++p) {
            double sum[V] = {};
            for (int k = 0; k < K; ++k) {
                const double factor = m[static_cast<size_t>(p) * K + k];
                for (int i = 0; i < V; ++i)
                    sum[i] += factor * taps[k * V + i];
            }
            for (int i = 0; i < V; ++i)
                to[p * plane_weights() + i] = static_cast<float>(sum[i]);
        }
    }
}

template <typename Transform>
void TransformKernel<Transform>::forward(View x, Rows rows, const TileGrid& grid, int first,
                                         int count, float* a, ptrdiff_t plane, float* edge) const {
    const int d = shape_.dilation;
    const int halo = d * (shape_.K - 1) / 2;
    const InputRows input(shape_, rows);
    grid.for_each(first, count, [&](int i, TileGrid::Tile tile) {
        const int t_in = tile.t0 - halo;
        const bool inside = t_in >= input.begin && t_in + d * (Transform::rows_in - 1) < input.end;
        for (int b = 0; b < blocks_in_; ++b) {
            const float* from = x.data + b * x.block;
            float* to = a + static_cast<ptrdiff_t>(i) * ldi_ + b * V;
            if (inside) {
                Transform::forward(from + static_cast<ptrdiff_t>(t_in) * V,
                                   static_cast<ptrdiff_t>(d) * V, to, plane);
                continue;
            }
            for (int n = 0; n < Transform::rows_in; ++n) {
                const int t = t_in + d * n;
                const bool exists = t >= input.begin && t < input.end;
                store(edge + n * V,
                      exists ? load(from + static_cast<ptrdiff_t>(t) * V) : set1(0.0f));
            }
            Transform::forward(edge, V, to, plane);
        }
    });
}

template <typename Transform>
template <typename Between>
void TransformKernel<Transform>::multiply(int p, const float* a, float* y, int tiles,
                                          Between&& between) const {
    static constexpr ptrdiff_t zero = 0;
    const int k = shape_.C_in;
    const Segments segments{a, &zero, 1, 1, k, k, ldi_};
    const float* b = weights_.get() + p * plane_weights();
    for (int v = 0; v < blocks_out_;) {
        const int nv = panel_vectors(blocks_out_ - v);
        const ptrdiff_t floats = static_cast<ptrdiff_t>(k) * nv * V;
        if (nv == 1)
            panel_product_ahead<1>(segments, b, y + v * V, ldo_, tiles, floats, between);
        else if (nv == 2)
            panel_product_ahead<2>(segments, b, y + v * V, ldo_, tiles, floats, between);
        else
            panel_product_ahead<3>(segments, b, y + v * V, ldo_, tiles, floats, between);
        b += floats;
        v += nv;
    }
}

template <typename Transform>
void TransformKernel<Transform>::inverse(const Epilogue& e, const TileGrid& grid, int first,
                                         int count, const float* y, ptrdiff_t plane) const {
    grid.for_each(first, count, [&](int i, TileGrid::Tile tile) {
        for (int b = 0; b < blocks_out_; ++b) {
            vec rows[Transform::most_rows];
            Transform::inverse(y + static_cast<ptrdiff_t>(i) * ldo_ + b * V, plane, shape_.K, rows);
            const BlockEpilogue epilogue(e, b, tile.t0, shape_.dilation, load(bias_.get() + b * V));
            epilogue.store_rows(tile.rows, [&](int r) { return rows[r]; });
        }
    });
}

// Plane p of the products lies where plane p - 1 of the transform was.
template <typename Transform>
template <typename Between>
void TransformKernel<Transform>::block(View x, Rows rows, const Epilogue& e, const TileGrid& grid,
                                       int first, int count, float* scratch,
                                       Between&& between) const {
    const ptrdiff_t plane = plane_floats(block_tiles_);
    forward(x, rows, grid, first, count, scratch + plane, plane, scratch + (P + 1) * plane);
    for (int p = 0; p < P; ++p)
        multiply(p, scratch + (p + 1) * plane, scratch + p * plane, count, between);
    inverse(e, grid, first, count, scratch, plane);
}

template <typename Transform>
void TransformKernel<Transform>::run_local(View x, Rows rows, const Epilogue& e,
                                           float* scratch) const {
    const TileGrid grid(rows.lo, rows.hi, shape_.dilation, tile_rows_);
    for (int i = 0; i < grid.count(); i += block_tiles_)
        block(x, rows, e, grid, i, std::min(block_tiles_, grid.count() - i), scratch, [] {});
}

// Tensors of whole layers lie in memory: while a block is multiplied, the rows that its inverse
// and the next block's forward transform touch are fetched.
template <typename Transform>
void TransformKernel<Transform>::run(View x, Rows rows, const Epilogue& e, int threads,
                                     Workspace& workspace) const {
    const TileGrid grid(rows.lo, rows.hi, shape_.dilation, tile_rows_);
    if (wide()) {
        run_wide(x, rows, e, grid, threads, workspace);
        return;
    }
    const size_t per_thread = local_scratch();
    float* scratch = workspace.get(per_thread * threads);
    const int fair = (grid.count() + threads - 1) / threads;
    const int tiles = std::min(block_tiles_, fair);
    const InputRows input(shape_, rows);
    const int halo = shape_.dilation * (shape_.K - 1) / 2;
    parallel_for(threads, (grid.count() + tiles - 1) / tiles, [&](int task, int thread) {
        const int first = task * tiles;
        const TileGrid::Span here = grid.span(first, tiles);
        const TileGrid::Span next = grid.span(first + threads * tiles, tiles);
        RowFetch fetch;
        for (const View& view : {e.residual, e.addend, e.raw, e.act})
            fetch.add(view, here.lo, here.hi, blocks_out_);
        if (next.lo < next.hi)
            fetch.add(x, std::max(next.lo - halo, input.begin), std::min(next.hi + halo, input.end),
                      blocks_in_);
        block(x, rows, e, grid, first, std::min(tiles, grid.count() - first),
              scratch + thread * per_thread, [&] { fetch.some(); });
    });
}

template <typename Transform>
void TransformKernel<Transform>::run_wide(View x, Rows rows, const Epilogue& e,
                                          const TileGrid& grid, int threads,
                                          Workspace& workspace) const {
    constexpr int group = 4;
    const int row_bytes = std::max(ldi_, ldo_) * static_cast<int>(sizeof(float));
    const int most = std::max(24, std::min(kPlaneBytes, kPlanesBytes / P) / row_bytes / 24 * 24);
    const int parts = (grid.count() + most - 1) / most;
    const int tiles = (grid.count() + parts - 1) / parts;
    const ptrdiff_t plane = plane_floats(tiles);
    float* planes =
        workspace.get((P + static_cast<size_t>(threads)) * plane + threads * kEdgeFloats);
    float* products = planes + P * plane;
    float* edges = products + threads * plane;
    for (int first = 0; first < grid.count(); first += tiles) {
        const int count = std::min(tiles, grid.count() - first);
        const int groups = (count + group - 1) / group;
        parallel_for(threads, groups, [&](int g, int thread) {
            forward(x, rows, grid, first + g * group, std::min(group, count - g * group),
                    planes + static_cast<ptrdiff_t>(g) * group * ldi_, plane,
                    edges + thread * kEdgeFloats);
        });
        parallel_for(threads, P, [&](int p, int thread) {
            float* y = products + thread * plane;
            multiply(p, planes + p * plane, y, count, [] {});
            std::copy(y, y + static_cast<ptrdiff_t>(count) * ldo_, planes + p * plane);
        });
        parallel_for(threads, groups, [&](int g, int) {
            inverse(e, grid, first + g * group, std::min(group, count - g * group),
                    planes + static_cast<ptrdiff_t>(g) * group * ldo_, plane);
        });
    }
}

}  // namespace VK_ISA
}  // namespace vk

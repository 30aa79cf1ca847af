// Wide direct convolutions as matrix products, one per output phase.
//
// Output row q * stride + first of a phase is the sum over its taps of x[q + tap] times [C_in,
// C_out] weights; rows of x outside [0, T) are zero. A convolution has one phase, a transposed
// convolution `stride` phases with the taps k = phase, phase + stride, ...: no product with an
// inserted zero. Rows of x are copied to [row][C_in] first, so that a tap is a shift of rows and k
// is contiguous. At most 256 products are summed at a time and those sums are added: the error
// stays that of a blocked matrix product.
#pragma once

#include <vector>

#include "cpu/gemm.h"
#include "cpu/layers.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

struct Phase {
    int first = 0;
    std::vector<int> taps;
    // The kernel index of each tap in the layer's weights.
    std::vector<int> kernel;
    size_t weights = 0;
    // Distance in floats of each segment from row q, `parts` segments of C_in / parts per tap.
    std::vector<ptrdiff_t> segments;
};

// Where the results go; either view may be empty. act = max(v, slope * v).
struct PhaseOutput {
    View raw;
    View act;
    float slope;
    const float* bias;
    int T;
};

class PhasedConv {
  public:
    // weight(c, o, k): element of the layer's weights for input c, output o, kernel index k.
    template <typename Weight>
    PhasedConv(int C_in, int C_out, int stride, std::vector<Phase> phases, Weight weight);

    // fill(row, count, a): rows [row, row + count) of x, all inside, to a with distance lda().
    template <typename Fill>
    void run(int T, const PhaseOutput& out, int threads, float* scratch, const Fill& fill) const;

    size_t scratch_floats(int T, int T_out, int threads) const;
    size_t packed_bytes() const { return packed_ * sizeof(float); }
    int lda() const { return lda_; }
    int vectors() const { return vecs_; }

  private:
    static constexpr int kBlockRows = 96;
    static constexpr int kSumLength = 256;
    struct Range {
        int begin, end;
    };

    // Rows q of a phase whose output rows are in [0, T_out).
    Range rows_of(const Phase& phase, int T_out) const;
    Range rows_of_all(int T_out) const;
    int chunk_rows(int rows, int threads) const;
    bool rows_in_parallel(int rows, int threads) const;
    size_t slab_floats(int chunk) const {
        return static_cast<size_t>(chunk + tap_max_ - tap_min_) * lda_;
    }
    template <typename Fill>
    void load_rows(int row, int count, int T, float* a, const Fill& fill) const;
    void panel(const Phase& phase, int v, Range q, const float* a, int a_row,
               const PhaseOutput& out) const;
    template <int NV>
    void sum_block(const Phase& phase, const float* b, const float* a, int rows, float* sums) const;
    template <int NV>
    void panel_of(const Phase& phase, int v, Range q, const float* a, int a_row,
                  const PhaseOutput& out) const;
    int panels() const { return static_cast<int>(panel_starts_.size()); }

    // Columns of segment i of a tap.
    int segment_k(int i) const {
        return i % parts_ + 1 < parts_ ? part_k_ : C_in_ - (parts_ - 1) * part_k_;
    }

    int C_in_, vecs_, stride_, lda_, parts_, part_k_;
    int tap_min_ = 0;
    int tap_max_ = 0;
    std::vector<Phase> phases_;
    std::vector<int> panel_starts_;
    size_t packed_ = 0;
    Floats weights_;
};

template <typename Weight>
PhasedConv::PhasedConv(int C_in, int C_out, int stride, std::vector<Phase> phases, Weight weight)
    : C_in_(C_in), vecs_((C_out + V - 1) / V), stride_(stride), phases_(std::move(phases)) {
    // Rows a multiple of 2 KiB apart would share cache sets.
    lda_ = (C_in + V - 1) / V * V;
    if (lda_ % 128 == 0) lda_ += V;
    parts_ = (C_in + kSumLength - 1) / kSumLength;
    part_k_ = (C_in + parts_ - 1) / parts_;
    for (int v = 0; v < vecs_; v += panel_vectors(vecs_ - v))
        panel_starts_.push_back(v);
    bool any = false;
    for (Phase& phase : phases_) {
        phase.weights = packed_;
        packed_ += phase.taps.size() * C_in * vecs_ * V;
        for (int tap : phase.taps) {
            for (int i = 0; i < parts_; ++i)
                phase.segments.push_back(static_cast<ptrdiff_t>(tap) * lda_ + i * part_k_);
            tap_min_ = any ? std::min(tap_min_, tap) : tap;
            tap_max_ = any ? std::max(tap_max_, tap) : tap;
            any = true;
        }
    }
    weights_ = make_floats(packed_);
    for (const Phase& phase : phases_) {
        const int taps = static_cast<int>(phase.taps.size());
        for (int o = 0; o < vecs_ * V; ++o) {
            const PanelPosition at(o, vecs_, taps * C_in);
            float* to = weights_.get() + phase.weights;
            for (int j = 0; j < taps; ++j) {
                for (int c = 0; c < C_in; ++c)
                    to[at.at(j * C_in + c)] = o < C_out ? weight(c, o, phase.kernel[j]) : 0.0f;
            }
        }
    }
}

inline PhasedConv::Range PhasedConv::rows_of(const Phase& phase, int T_out) const {
    const auto ceil_div = [this](int n) {
        return n >= 0 ? (n + stride_ - 1) / stride_ : -(-n / stride_);
    };
    return {ceil_div(-phase.first), ceil_div(T_out - phase.first)};
}

inline PhasedConv::Range PhasedConv::rows_of_all(int T_out) const {
    Range all = rows_of(phases_.front(), T_out);
    for (const Phase& phase : phases_) {
        const Range r = rows_of(phase, T_out);
        all = {std::min(all.begin, r.begin), std::max(all.end, r.end)};
    }
    return all;
}

// Weights that stay in L2 are best reused by every thread on rows of its own.
inline bool PhasedConv::rows_in_parallel(int rows, int threads) const {
    constexpr size_t l2_bytes = 256 * 1024;
    return packed_bytes() <= l2_bytes && rows >= threads * kBlockRows;
}

inline int PhasedConv::chunk_rows(int rows, int threads) const {
    if (rows_in_parallel(rows, threads)) return kBlockRows;
    constexpr int slab_bytes = 4 << 20;
    const int fit = slab_bytes / (lda_ * static_cast<int>(sizeof(float))) / kBlockRows * kBlockRows;
    return std::min(rows, std::max(fit, kBlockRows));
}

inline size_t PhasedConv::scratch_floats(int T, int T_out, int threads) const {
    (void)T;
    const Range all = rows_of_all(T_out);
    const int rows = all.end - all.begin;
    const size_t slab = slab_floats(chunk_rows(rows, threads));
    return rows_in_parallel(rows, threads) ? slab * threads : slab;
}

template <typename Fill>
void PhasedConv::load_rows(int row, int count, int T, float* a, const Fill& fill) const {
    const int begin = std::min(std::max(row, 0), row + count);
    const int end = std::max(std::min(row + count, T), begin);
    std::fill(a, a + static_cast<ptrdiff_t>(begin - row) * lda_, 0.0f);
    if (end > begin) fill(begin, end - begin, a + static_cast<ptrdiff_t>(begin - row) * lda_);
    std::fill(a + static_cast<ptrdiff_t>(end - row) * lda_,
              a + static_cast<ptrdiff_t>(count) * lda_, 0.0f);
}

// sums[rows][NV * V]: rows of one panel. b: the panel's weights.
template <int NV>
void PhasedConv::sum_block(const Phase& phase, const float* b, const float* a, int rows,
                           float* sums) const {
    alignas(64) float part[kBlockRows * NV * V];
    const int segments = static_cast<int>(phase.segments.size());
    const int at_once = parts_ > 1 ? 1 : std::max(1, kSumLength / C_in_);
    if (segments == 0) std::fill(sums, sums + rows * NV * V, 0.0f);
    for (int i = 0; i < segments; i += at_once) {
        const int count = std::min(at_once, segments - i);
        const int k = segment_k(i);
        const Segments s{a, phase.segments.data() + i, count, 1, k, k, lda_};
        panel_product<NV>(s, b, i == 0 ? sums : part, NV * V, rows);
        b += static_cast<ptrdiff_t>(count) * k * NV * V;
        if (i == 0) continue;
        for (int j = 0; j < rows * NV; ++j)
            store(sums + j * V, load(sums + j * V) + load(part + j * V));
    }
}

template <int NV>
void PhasedConv::panel_of(const Phase& phase, int v, Range q, const float* a, int a_row,
                          const PhaseOutput& out) const {
    alignas(64) float sums[kBlockRows * NV * V];
    const int taps = static_cast<int>(phase.taps.size());
    const float* b = weights_.get() + phase.weights + static_cast<size_t>(v) * V * taps * C_in_;
    const vec slope = set1(out.slope);
    for (int q0 = q.begin; q0 < q.end; q0 += kBlockRows) {
        const int rows = std::min(kBlockRows, q.end - q0);
        sum_block<NV>(phase, b, a + static_cast<ptrdiff_t>(q0 - a_row) * lda_, rows, sums);
        for (int i = 0; i < NV; ++i) {
            const vec bias = load(out.bias + (v + i) * V);
            const ptrdiff_t at = (static_cast<ptrdiff_t>(q0) * stride_ + phase.first) * V;
            const ptrdiff_t step = static_cast<ptrdiff_t>(stride_) * V;
            const View raw = out.raw.shifted((v + i) * out.raw.block + at);
            const View act = out.act.shifted((v + i) * out.act.block + at);
            for (int r = 0; r < rows; ++r) {
                const vec y = load(sums + (r * NV + i) * V) + bias;
                if (raw.data) store(raw.data + r * step, y);
                if (act.data) store(act.data + r * step, max(y, y * slope));
            }
        }
    }
}

inline void PhasedConv::panel(const Phase& phase, int v, Range q, const float* a, int a_row,
                              const PhaseOutput& out) const {
    const int nv = panel_vectors(vecs_ - v);
    if (nv == 1)
        panel_of<1>(phase, v, q, a, a_row, out);
    else if (nv == 2)
        panel_of<2>(phase, v, q, a, a_row, out);
    else
        panel_of<3>(phase, v, q, a, a_row, out);
}

template <typename Fill>
void PhasedConv::run(int T, const PhaseOutput& out, int threads, float* scratch,
                     const Fill& fill) const {
    const Range all = rows_of_all(out.T);
    const int rows = all.end - all.begin;
    const int chunk = chunk_rows(rows, threads);
    const int chunks = (rows + chunk - 1) / chunk;
    const int halo = tap_max_ - tap_min_;
    const auto range = [&](const Phase& phase, int i) {
        const Range r = rows_of(phase, out.T);
        const int q0 = all.begin + i * chunk;
        return Range{std::max(r.begin, q0), std::min(r.end, q0 + chunk)};
    };
    if (rows_in_parallel(rows, threads)) {
        parallel_for(threads, chunks, [&](int i, int thread) {
            float* a = scratch + thread * slab_floats(chunk);
            const int a_row = all.begin + i * chunk + tap_min_;
            load_rows(a_row, chunk + halo, T, a, fill);
            for (const Phase& phase : phases_) {
                for (int v : panel_starts_)
                    panel(phase, v, range(phase, i), a, a_row, out);
            }
        });
        return;
    }
    for (int i = 0; i < chunks; ++i) {
        const int a_row = all.begin + i * chunk + tap_min_;
        const int a_rows = std::min(chunk, all.end - all.begin - i * chunk) + halo;
        const int parts = (a_rows + kBlockRows - 1) / kBlockRows;
        parallel_for(threads, parts, [&](int part, int) {
            const int begin = part * kBlockRows;
            load_rows(a_row + begin, std::min(kBlockRows, a_rows - begin), T,
                      scratch + static_cast<size_t>(begin) * lda_, fill);
        });
        const int tasks = static_cast<int>(phases_.size()) * panels();
        parallel_for(threads, tasks, [&](int task, int) {
            const Phase& phase = phases_[task / panels()];
            panel(phase, panel_starts_[task % panels()], range(phase, i), scratch, a_row, out);
        });
    }
}

}  // namespace VK_ISA
}  // namespace vk

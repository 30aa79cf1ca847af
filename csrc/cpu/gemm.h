// Small matrix products on registers: y[rows, vecs * V] = a[rows, k] * b, b packed in column
// panels.
//
// A panel is `nv` vectors wide and holds [k][nv * V]. Register tiles (rows x nv): AVX-512 24x1,
// 12x2, 8x3; AVX2 10x1, 6x2, 4x3. On Zen 5 (512-bit) 12x2 and 8x3 run at 270 GFLOP/s per core,
// 24x1, whose every product needs a load, at 200.
#pragma once

#include <algorithm>
#include <utility>

#include "cpu/simd.h"

namespace vk {
namespace VK_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows[4] = {0, 24, 12, 8};
#else
constexpr int kTileRows[4] = {0, 10, 6, 4};
#endif
// Products summed one after another; then the partial sum is added to the others. One long chain
// would err several times as much.
constexpr int kPartialSum = 192;
constexpr int kLineFloats = 16;
// Row blocks that are a multiple of it fill every kind of tile.
constexpr int kRowMultiple = kTileRows[1];

inline int panel_vectors(int vectors_left) {
    return vectors_left == 1 ? 1 : vectors_left == 3 ? 3 : 2;
}

// Where column o of row k goes in a panel-packed [k_count][vecs * V] matrix.
struct PanelPosition {
    size_t base;
    int step;

    PanelPosition(int o, int vecs, int k_count) {
        int v = 0;
        int nv = panel_vectors(vecs);
        while (o >= (v + nv) * V) {
            v += nv;
            nv = panel_vectors(vecs - v);
        }
        base = static_cast<size_t>(v) * V * k_count + (o - v * V);
        step = nv * V;
    }
    size_t at(int k) const { return base + static_cast<size_t>(k) * step; }
};

template <int MR, int NV>
struct Tile {
    vec acc[MR][NV];

    VK_INLINE void clear() {
        VK_UNROLL
        for (int r = 0; r < MR; ++r) {
            VK_UNROLL
            for (int v = 0; v < NV; ++v)
                acc[r][v] = set1(0.0f);
        }
    }
    // LDA: the row distance of `a` if it is known when compiling, otherwise 0; pointers to 24 rows
    // do not fit the registers. Prefetch: fetches a line from `next` on per column,
    // into L1 for the small panels of narrow rows (2 to 10% faster), into L2 for others.
    template <bool Prefetch, int LDA>
    VK_INLINE void add(const float* a, ptrdiff_t lda_given, const float* b, int k_count,
                       const float* next) {
        const ptrdiff_t lda = LDA ? LDA : lda_given;
        for (int k = 0; k < k_count; ++k) {
            vec bv[NV];
            if (Prefetch && LDA) prefetch_near(next + k * kLineFloats);
            if (Prefetch && !LDA) prefetch_far(next + k * kLineFloats);
            VK_UNROLL
            for (int v = 0; v < NV; ++v)
                bv[v] = load(b + v * V);
            VK_UNROLL
            for (int r = 0; r < MR; ++r) {
                const vec av = set1(a[r * lda]);
                VK_UNROLL
                for (int v = 0; v < NV; ++v)
                    acc[r][v] = fma(av, bv[v], acc[r][v]);
            }
            ++a;
            b += NV * V;
        }
    }
    // y = acc or y += acc.
    template <bool Add>
    VK_INLINE void put(float* y, ptrdiff_t ldy) const {
        VK_UNROLL
        for (int r = 0; r < MR; ++r) {
            VK_UNROLL
            for (int v = 0; v < NV; ++v) {
                float* to = y + r * ldy + v * V;
                store(to, Add ? load(to) + acc[r][v] : acc[r][v]);
            }
        }
    }
    VK_INLINE void put(float* y, ptrdiff_t ldy, bool add) const {
        if (add)
            put<true>(y, ldy);
        else
            put<false>(y, ldy);
    }
};

// One left operand: `count` matrices of up to `k_block` columns each, whose addresses are
// base + offset[i], all with the same row distance; the last of every `cycle` has `k_last` columns.
struct Segments {
    const float* base;
    const ptrdiff_t* offset;
    int count;
    int cycle;
    int k_block;
    int k_last;
    ptrdiff_t lda;
};

// As tile_product for a single segment, fetching k_last lines from `next` on.
template <int MR, int NV, int LDA = 0>
VK_NOINLINE void tile_product_ahead(const Segments& a, ptrdiff_t row, const float* b, float* y,
                                    ptrdiff_t ldy, const float* next) {
    const float* first = a.base + row * a.lda;
    for (int k = 0; k < a.k_last; k += kPartialSum) {
        Tile<MR, NV> tile;
        tile.clear();
        const int count = std::min(kPartialSum, a.k_last - k);
        tile.template add<true, LDA>(first + k, a.lda, b + static_cast<ptrdiff_t>(k) * NV * V,
                                     count, next + k * kLineFloats);
        tile.put(y + row * ldy, ldy, k > 0);
    }
}

template <int MR, int NV, int LDA = 0>
VK_NOINLINE void tile_product(const Segments& a, ptrdiff_t row, const float* b, float* y,
                              ptrdiff_t ldy) {
    const float* first = a.base + row * a.lda;
    int in_cycle = 0, done = 0;
    bool more = false;
    for (int i = 0; i < a.count; more = true) {
        Tile<MR, NV> tile;
        tile.clear();
        for (int terms = 0; i < a.count && terms < kPartialSum;) {
            const int columns = in_cycle + 1 == a.cycle ? a.k_last : a.k_block;
            const int k = std::min(columns - done, kPartialSum);
            tile.template add<false, LDA>(first + a.offset[i] + done, a.lda, b, k, nullptr);
            b += static_cast<ptrdiff_t>(k) * NV * V;
            terms += k;
            done += k;
            if (done == columns) {
                done = 0;
                ++i;
                in_cycle = in_cycle + 1 == a.cycle ? 0 : in_cycle + 1;
            }
        }
        tile.put(y + row * ldy, ldy, more);
    }
}

using TileProduct = void (*)(const Segments&, ptrdiff_t, const float*, float*, ptrdiff_t);

template <int NV, int... I>
inline TileProduct tile_product_of(int rows, std::integer_sequence<int, I...>) {
    static constexpr TileProduct table[] = {tile_product<I + 1, NV>...};
    return table[rows - 1];
}

template <int NV>
inline TileProduct full_tile_product(ptrdiff_t lda) {
    constexpr int MR = kTileRows[NV];
    return lda == V       ? tile_product<MR, NV, V>
           : lda == 2 * V ? tile_product<MR, NV, 2 * V>
           : lda == 4 * V ? tile_product<MR, NV, 4 * V>
                          : tile_product<MR, NV>;
}

template <int NV>
inline void panel_product(const Segments& a, const float* b, float* y, ptrdiff_t ldy, int rows) {
    constexpr int MR = kTileRows[NV];
    const TileProduct full = full_tile_product<NV>(a.lda);
    int r = 0;
    for (; r + MR <= rows; r += MR)
        full(a, r, b, y, ldy);
    if (r < rows)
        tile_product_of<NV>(rows - r, std::make_integer_sequence<int, MR>())(a, r, b, y, ldy);
}

// As panel_product for a single segment, while the `ahead_floats` that follow the panel are
// fetched. between() is called after every full tile.
template <int NV, typename Between>
inline void panel_product_ahead(const Segments& a, const float* b, float* y, ptrdiff_t ldy,
                                int rows, ptrdiff_t ahead_floats, Between&& between) {
    constexpr int MR = kTileRows[NV];
    const float* next = b + static_cast<ptrdiff_t>(a.k_last) * NV * V;
    const float* end = next + ahead_floats;
    const auto ahead = a.lda == V       ? tile_product_ahead<MR, NV, V>
                       : a.lda == 2 * V ? tile_product_ahead<MR, NV, 2 * V>
                       : a.lda == 4 * V ? tile_product_ahead<MR, NV, 4 * V>
                                        : tile_product_ahead<MR, NV>;
    const TileProduct full = full_tile_product<NV>(a.lda);
    int r = 0;
    for (; r + MR <= rows && next < end; r += MR, next += a.k_last * kLineFloats) {
        ahead(a, r, b, y, ldy, next);
        between();
    }
    for (; r + MR <= rows; r += MR) {
        full(a, r, b, y, ldy);
        between();
    }
    if (r < rows)
        tile_product_of<NV>(rows - r, std::make_integer_sequence<int, MR>())(a, r, b, y, ldy);
}

// Vectors [v_begin, v_end) of the product; both must be panel limits. k_total: rows of b.
inline void product(const Segments& a, const float* b, int k_total, float* y, ptrdiff_t ldy,
                    int rows, int vecs, int v_begin, int v_end) {
    for (int v = 0; v < v_end;) {
        const int nv = panel_vectors(vecs - v);
        if (v >= v_begin) {
            float* out = y + v * V;
            if (nv == 1)
                panel_product<1>(a, b, out, ldy, rows);
            else if (nv == 2)
                panel_product<2>(a, b, out, ldy, rows);
            else
                panel_product<3>(a, b, out, ldy, rows);
        }
        b += static_cast<ptrdiff_t>(k_total) * nv * V;
        v += nv;
    }
}

}  // namespace VK_ISA
}  // namespace vk

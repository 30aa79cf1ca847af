// The grid of transform tiles over output rows [lo, hi): `dilation` interleaved sequences of tiles.
//
// Tiles that interleave follow each other, so that a block of tiles covers neighbouring rows.
#pragma once

#include <algorithm>

#include "cpu/layers.h"

namespace vk {

class TileGrid {
  public:
    TileGrid(int lo, int hi, int dilation, int tile_rows)
        : lo_(lo), hi_(hi), dilation_(dilation), tile_rows_(tile_rows) {
        for (int phase = 0; phase < dilation; ++phase)
            count_ += tiles_of(phase);
    }

    int count() const { return count_; }

    struct Tile {
        int t0;
        int rows;
    };

    // Visits tiles [first, first + count) in order: visit(i, tile), i from 0.
    template <typename Visit>
    void for_each(int first, int count, Visit visit) const {
        for (int i = 0; i < count; ++i) {
            const int index = (first + i) / dilation_, phase = (first + i) % dilation_;
            const int t0 = lo_ + phase + dilation_ * index * tile_rows_;
            const int left = (hi_ - t0 + dilation_ - 1) / dilation_;
            visit(i, Tile{t0, std::min(left, tile_rows_)});
        }
    }

    struct Span {
        int lo, hi;
    };
    // The output rows of tiles [first, first + count), and of tiles that interleave with them.
    Span span(int first, int count) const {
        const int rows = dilation_ * tile_rows_;
        return {std::min(hi_, lo_ + first / dilation_ * rows),
                std::min(hi_, lo_ + (first + count + dilation_ - 1) / dilation_ * rows)};
    }

  private:
    int tiles_of(int phase) const {
        const int rows = (hi_ - lo_ - phase + dilation_ - 1) / dilation_;
        return rows > 0 ? (rows + tile_rows_ - 1) / tile_rows_ : 0;
    }

    int lo_, hi_, dilation_, tile_rows_;
    int count_ = 0;
};

}  // namespace vk

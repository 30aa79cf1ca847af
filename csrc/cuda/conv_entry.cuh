// Choice and launch of a convolution kernel for one element type; each type is its own .cu file so
// that they compile side by side.
#pragma once

#include "conv_kernel.cuh"

namespace vk {
namespace cuda {

using ConvKernel = void (*)(ConvParams, int);

struct ConvEntry {
    ConvTile tile;
    ConvKernel kernel;
};

template <typename T, template <typename> class Source, int kRows, int kColumns, int kSlots,
          int kCtas, bool kSummed = false>
constexpr ConvEntry conv_entry() {
    using Shape = ConvShape<T, kRows, kColumns, kSlots, kCtas>;
    return {{kRows, kColumns, Shape::kThreads}, conv_kernel<Shape, Source<T>, kSummed>};
}

// Largest first. Null past the last. 128 x 128 modelled 15-50% slower than 64 x 128: eight warps
// per multiprocessor hide too little.
template <typename T>
const ConvEntry* conv_entries(ConvSource source, int index) {
    static constexpr ConvEntry kActivated[] = {
        conv_entry<T, ActivatedSource, 64, 128, 4, 3>(),
        conv_entry<T, ActivatedSource, 64, 64, 4, 6>(),
        conv_entry<T, ActivatedSource, 32, 64, 8, 6>(),
    };
    static constexpr ConvEntry kMean[] = {
        conv_entry<T, MeanSource, 64, 128, 4, 3>(),
        conv_entry<T, MeanSource, 32, 64, 4, 6>(),
    };
    static constexpr ConvEntry kStrided[] = {
        conv_entry<T, StridedSource, 64, 64, 2, 6>(),
        conv_entry<T, StridedSource, 32, 64, 2, 8>(),
    };
    static constexpr ConvEntry kSummed[] = {
        conv_entry<T, ActivatedSource, 64, 128, 4, 3, true>(),
        conv_entry<T, ActivatedSource, 64, 64, 4, 6, true>(),
        conv_entry<T, ActivatedSource, 32, 64, 8, 6, true>(),
    };
    const auto pick = [index](const auto& table) -> const ConvEntry* {
        const int count = sizeof(table) / sizeof(table[0]);
        return index >= 0 && index < count ? &table[index] : nullptr;
    };
    if (source == ConvSource::kActivated) return pick(kActivated);
    if (source == ConvSource::kMean) return pick(kMean);
    if (source == ConvSource::kSummed) return pick(kSummed);
    return pick(kStrided);
}

const ConvEntry* conv_fp16(ConvSource source, int index);
const ConvEntry* conv_bf16(ConvSource source, int index);

}  // namespace cuda
}  // namespace vk

#include "cpu/conv_transform.h"

#include "cpu/conv_direct.h"

namespace vk {
namespace VK_ISA {

bool can_run(const ConvShape& shape, int algorithm) {
    if (algorithm == 4 || algorithm == 6) return shape.K == 3;
    // Two outputs and more per tile, and the wraps at taps of their own.
    return algorithm == 1 || (shape.K >= 2 && shape.K <= algorithm);
}

std::unique_ptr<ConvKernel> make_conv_kernel(const ConvWeights& weights, int algorithm,
                                             int threads) {
    switch (algorithm) {
        case 4:
            return std::make_unique<TransformKernel<ToomCookTile<2>>>(weights, threads);
        case 6:
            return std::make_unique<TransformKernel<ToomCookTile<3>>>(weights, threads);
        case 8:
            return std::make_unique<TransformKernel<FftTile<8>>>(weights, threads);
        case 16:
            return std::make_unique<TransformKernel<FftTile<16>>>(weights, threads);
        case 32:
            return std::make_unique<TransformKernel<FftTile<32>>>(weights, threads);
        default:
            return std::make_unique<DirectKernel>(weights, threads);
    }
}

}  // namespace VK_ISA
}  // namespace vk

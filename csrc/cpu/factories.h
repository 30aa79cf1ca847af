// Makers of the layers for one instruction set; Kernels in layers.h holds their addresses.
#pragma once

#include "cpu/layers.h"

#ifndef VK_ISA
#error "compile with -DVK_ISA=avx512, avx2 or generic"
#endif

namespace vk {
namespace VK_ISA {

std::shared_ptr<Conv> make_conv(ConvShape shape, const float* w, const float* bias, int algorithm);
std::shared_ptr<Stage> make_stage(StagePlan plan);
std::shared_ptr<Upsample> make_upsample(int C_in, int C_out, int K, int stride, int padding,
                                        const float* w, const float* bias);
std::shared_ptr<Head> make_head(ConvShape shape, const float* w, const float* bias);
std::shared_ptr<Snake> make_snake(int C, const float* alpha, const float* inv_beta, const float* up,
                                  const float* down);
std::shared_ptr<Tail> make_tail(int C, int K, const float* w, float bias, bool clamp);

}  // namespace VK_ISA
}  // namespace vk

// Narrow-channel residual unit on tensor cores: public interface.
//
//   out_j = x_j + conv2_j(act2_j(conv1_j(act1_j(x_j))))     n_convs = 2 (resblock "1")
//   out_j = x_j + conv_j(act_j(x_j))                        n_convs = 1 (resblock "2")
//
// for up to four branches j in one launch. Streams are fp32, channels-last [B, T_cap, C];
// convolutions multiply in fp16 or bf16 and accumulate in fp32. No torch, raw device pointers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vk {
namespace cuda {

constexpr int kMaxUnitBranches = 4;
constexpr int kFilterTaps = 12;

enum class UnitDtype { kFloat16, kBFloat16 };
enum class UnitActivation { kLeakyRelu, kSnake };

// What is computed; shapes only.
struct ResidualUnitDesc {
    UnitDtype dtype;
    UnitActivation activation;
    int C;
    int n_convs;
    std::vector<int> K;         // one per branch, odd; the launch keeps this order: longest first
    std::vector<int> dilation;  // of the first convolution, one per branch
};

// One branch's tensors. `x` of several branches may be the same; no `out` may overlap any `x`.
struct ResidualUnitBranch {
    const float* x;
    float* out;
    const void* weight[2];     // packed by vocoder_kernels.ops.residual_unit.pack
    const float* bias[2];      // [C]
    const float* alpha[2];     // snake: [C]
    const float* inv_beta[2];  // snake: [C]
};

struct ResidualUnitArgs {
    std::vector<ResidualUnitBranch> branches;
    const int32_t* ranges;  // [B, 2], valid frames [start, end), device memory
    int B;
    int64_t T_cap;
    int scale;  // valid rows are [start * scale, end * scale + extra)
    int extra;
    float slope;                     // LeakyReLU
    float filter_up[kFilterTaps];    // snake: taps of the 2x upsampling, gain not included
    float filter_down[kFilterTaps];  // snake: taps of the 2x downsampling
};

// How it is computed. A warp owns m_tiles x 16 rows and C / warps_n channels.
struct ResidualUnitConfig {
    int warps_m;
    int warps_n;
    int m_tiles;
    int ctas_per_sm;  // the register budget the kernel was compiled for

    int threads() const { return 32 * warps_m * warps_n; }
    int rows() const { return 16 * warps_m * m_tiles; }
};

// Properties of a device that decide what can run there.
struct UnitDevice {
    int arch;  // 10 * major + minor
    int multiprocessors;
    int shared_bytes_per_block;  // with opt-in
    int shared_bytes_per_multiprocessor;
};

// Throws std::runtime_error with the CUDA error's text.
UnitDevice residual_unit_device(int device);

// Empty when the unit can run on the device, otherwise a sentence saying why it cannot.
std::string residual_unit_reason(const ResidualUnitDesc& desc, const UnitDevice& device);

// Rows of output per CTA of a branch, and dynamic shared memory of the launch.
int residual_unit_tile_rows(const ResidualUnitDesc& desc, const ResidualUnitConfig& config,
                            int branch);
int residual_unit_shared_bytes(const ResidualUnitDesc& desc, const ResidualUnitConfig& config);

// Tile shapes compiled for the description, best for long inputs first, and the one the launch
// takes. The result's bits do not depend on the choice.
std::vector<ResidualUnitConfig> residual_unit_configs(const ResidualUnitDesc& desc);
ResidualUnitConfig residual_unit_config(const ResidualUnitDesc& desc, const UnitDevice& device,
                                        int B, int64_t T_cap);

// Enqueues one kernel on `stream`; no allocation, no synchronisation, safe under graph capture.
// Throws std::invalid_argument on arguments that cannot run, std::runtime_error on a CUDA error.
void residual_unit(const ResidualUnitDesc& desc, const ResidualUnitArgs& args,
                   const ResidualUnitConfig& config, cudaStream_t stream);

}  // namespace cuda
}  // namespace vk

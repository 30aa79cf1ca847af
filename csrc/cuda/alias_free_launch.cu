#include <string>

#include "alias_free_kernel.cuh"
#include "error.h"

namespace vk {
namespace cuda {
namespace {

constexpr const char* kOp = "alias_free";

using Kernel = void (*)(AliasFreeParams);

Kernel select(DType in, DType out) {
    if (in == DType::kFloat32 && out == DType::kFloat32) return alias_free_kernel<float, float>;
    if (in == DType::kFloat32 && out == DType::kFloat16) return alias_free_kernel<float, __half>;
    if (in == DType::kFloat32 && out == DType::kBFloat16)
        return alias_free_kernel<float, __nv_bfloat16>;
    if (in == DType::kFloat16 && out == DType::kFloat16) return alias_free_kernel<__half, __half>;
    if (in == DType::kBFloat16 && out == DType::kBFloat16)
        return alias_free_kernel<__nv_bfloat16, __nv_bfloat16>;
    return nullptr;
}

}  // namespace

void launch_alias_free(const AliasFreeParams& params, int branches, int B, DType in, DType out,
                       cudaStream_t stream) {
    const Kernel kernel = select(in, out);
    require(kernel, kOp,
            std::string("no kernel reads ") + name(in) + " and writes " + name(out) +
                "; expected the same dtype, or fp32 input.");
    require(branches >= 1 && branches <= 3, kOp,
            "expected 1 to 3 branches, got " + std::to_string(branches) + ".");
    require(params.tile >= 4, kOp,
            "expected a tile of at least 4 rows, got " + std::to_string(params.tile) + ".");
    require(B >= 1 && params.T_cap >= 1 && params.C >= 1, kOp,
            "expected B, T_cap and C of at least 1, got " + std::to_string(B) + ", " +
                std::to_string(params.T_cap) + " and " + std::to_string(params.C) + ".");
    const int64_t tiles = (static_cast<int64_t>(params.T_cap) + params.tile - 1) / params.tile;
    const int64_t items = tiles * params.C;
    require(static_cast<int64_t>(params.T_cap) * params.C < 1ll << 30 && B <= 65535, kOp,
            "the window of " + std::to_string(params.T_cap) + " rows x " +
                std::to_string(params.C) + " channels x " + std::to_string(B) +
                " rows of batch exceeds 2^30 values per row or 65535 rows; use smaller windows.");
    const dim3 grid(static_cast<unsigned>((items + kAliasFreeThreads - 1) / kAliasFreeThreads),
                    branches, B);
    kernel<<<grid, kAliasFreeThreads, 0, stream>>>(params);
    check_launch(kOp, std::string(name(in)) + " to " + name(out) +
                          ", C = " + std::to_string(params.C) + ", tile " +
                          std::to_string(params.tile) + ", grid " + std::to_string(grid.x) + " x " +
                          std::to_string(grid.y) + " x " + std::to_string(grid.z));
}

}  // namespace cuda
}  // namespace vk

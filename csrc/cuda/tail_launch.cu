#include <algorithm>
#include <string>

#include "error.h"
#include "tail_kernel.cuh"

namespace vk {
namespace cuda {
namespace {

constexpr const char* kOp = "tail";
constexpr size_t kSharedBytes = 48 * 1024;  // what every device gives without opting in

using Kernel = void (*)(TailParams, bool);

Kernel select(DType in, bool snake) {
    if (snake) return in == DType::kFloat32 ? tail_kernel<float, true> : nullptr;
    if (in == DType::kFloat32) return tail_kernel<float, false>;
    if (in == DType::kFloat16) return tail_kernel<__half, false>;
    if (in == DType::kBFloat16) return tail_kernel<__nv_bfloat16, false>;
    return nullptr;
}

size_t shared_bytes(const TailParams& p, int threads, bool snake) {
    const size_t rows = threads + p.K - 1;
    return sizeof(float) * p.pitch * (snake ? 2 * rows + 2 * kTailSnakeReach : rows);
}

// Rows per thread that activate a tile in the least time (6 rows of warm-up each), preferring those
// where threads on two neighbouring segments of a warp hit different shared-memory banks.
int choose_segment(const TailParams& p, int threads) {
    const int rows = threads + p.K - 1;
    int best = 16;
    long best_cost = -1;
    for (int segment = 8; segment <= 48; ++segment) {
        const long items = static_cast<long>((rows + segment - 1) / segment) * p.C;
        const long rounds = (items + threads - 1) / threads;
        const bool conflicts = (segment * p.pitch - p.C) % 32 != 0;
        const long cost = rounds * (segment + 6) * (conflicts ? 5 : 4);
        if (best_cost < 0 || cost < best_cost) {
            best = segment;
            best_cost = cost;
        }
    }
    return best;
}

}  // namespace

void launch_tail(TailParams params, int B, DType in, TailActivation activation,
                 cudaStream_t stream) {
    const bool snake = activation == TailActivation::kSnake;
    const Kernel kernel = select(in, snake);
    require(kernel, kOp,
            std::string("no kernel reads ") + name(in) + (snake ? " with a snake" : "") +
                "; expected fp32, or fp16 or bf16 without a snake.");
    require(params.branches >= 1 && params.branches <= 3, kOp,
            "expected 1 to 3 branches, got " + std::to_string(params.branches) + ".");
    require(params.K >= 1 && params.K % 2 == 1, kOp,
            "expected an odd kernel size, got " + std::to_string(params.K) + ".");
    require(B >= 1 && B <= 65535 && params.T_cap >= 1 && params.C >= 1, kOp,
            "expected B from 1 to 65535, T_cap and C of at least 1, got " + std::to_string(B) +
                ", " + std::to_string(params.T_cap) + " and " + std::to_string(params.C) + ".");
    params.pitch = tail_pitch(params.C);
    int threads = kTailMaxThreads;
    while (threads > 64 && shared_bytes(params, threads, snake) > kSharedBytes)
        threads -= 64;
    const size_t bytes = shared_bytes(params, threads, snake);
    require(bytes <= kSharedBytes && params.K <= 64, kOp,
            "C = " + std::to_string(params.C) + " and K = " + std::to_string(params.K) + " need " +
                std::to_string(bytes) +
                " bytes of shared memory, 49152 are there; K is at most 64.");
    if (snake) params.segment = choose_segment(params, threads);
    for (int j = params.branches; j < 3; ++j)
        params.x[j] = params.x[0];
    const dim3 grid((params.T_cap + threads - 1) / threads, 1, B);
    kernel<<<grid, threads, bytes, stream>>>(params, activation == TailActivation::kLeakyReLU);
    check_launch(kOp, std::string(name(in)) + " to " + name(params.out_dtype) +
                          ", C = " + std::to_string(params.C) +
                          ", K = " + std::to_string(params.K) + ", grid " + std::to_string(grid.x) +
                          " x " + std::to_string(B) + ", " + std::to_string(threads) +
                          " threads, " + std::to_string(bytes) + " bytes of shared memory");
}

}  // namespace cuda
}  // namespace vk

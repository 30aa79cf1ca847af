// Warp-level tensor-core primitives shared by the convolution kernels: 8x8 matrix loads from
// shared memory, m16n8k16 multiply-accumulate in fp16 or bf16, asynchronous 16-byte copies.
// Turing (sm_75) has m16n8k8 only; its fragments are the two halves of the k16 ones, so the same
// packed weights and the same ldmatrix addresses serve every architecture.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vk {
namespace cuda {

// One k16 step of A for 16 rows: {rows 0-7, k 0-7}, {rows 8-15, k 0-7}, {rows 0-7, k 8-15},
// {rows 8-15, k 8-15}. Lane l of ldmatrix gives the address of row l % 16, k half l / 16.
struct FragmentA {
    uint32_t r[4];
};

// One k16 step of B for 8 columns: {k 0-7}, {k 8-15}; lane l holds column l / 4 and
// k = 2 * (l % 4) + {0, 1} of each half.
struct FragmentB {
    uint32_t r[2];
};

// 16x8 fp32 accumulator: lane l holds row l / 4 (v[0], v[1]) and row l / 4 + 8 (v[2], v[3]),
// columns 2 * (l % 4) + {0, 1}.
struct FragmentC {
    float v[4];
};

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// The "memory" clobber orders the load with ordinary stores to shared memory around barriers;
// without volatile the compiler is free to schedule it between multiplications.
__device__ __forceinline__ FragmentA load_matrix_x4(uint32_t address) {
    FragmentA a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(address)
                 : "memory");
    return a;
}

template <typename T>
struct TensorCore;

template <>
struct TensorCore<__half> {
    static constexpr bool kAvailable = true;

    __device__ __forceinline__ static void multiply_add(FragmentC& c, const FragmentA& a,
                                                        const FragmentB& b) {
#if __CUDA_ARCH__ >= 800
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
            : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#else
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
                : "r"(a.r[2 * half]), "r"(a.r[2 * half + 1]), "r"(b.r[half]));
        }
#endif
    }

    __device__ __forceinline__ static uint32_t pack(float low, float high) {
        const __half2 pair = __floats2half2_rn(low, high);
        return *reinterpret_cast<const uint32_t*>(&pair);
    }
};

// bf16 tensor cores exist from sm_80 on; kernels without trap, and can_run refuses them.
template <>
struct TensorCore<__nv_bfloat16> {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    static constexpr bool kAvailable = false;
#else
    static constexpr bool kAvailable = true;
#endif

    __device__ __forceinline__ static void multiply_add(FragmentC& c, const FragmentA& a,
                                                        const FragmentB& b) {
#if __CUDA_ARCH__ >= 800
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
            : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#endif
    }

    __device__ __forceinline__ static uint32_t pack(float low, float high) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        return *reinterpret_cast<const uint32_t*>(&pair);
    }
};

#if __CUDA_ARCH__ >= 800
// 16 bytes from global to shared memory past the registers and L1; `valid` false writes zeros and
// reads nothing.
__device__ __forceinline__ void copy_async_16(uint32_t shared, const void* global, bool valid) {
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
#endif

}  // namespace cuda
}  // namespace vk

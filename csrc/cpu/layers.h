// Layers of a vocoder on the CPU: interfaces that are the same for every instruction set.
//
// Activations are fp32, blocked [ceil(C / V)][T][V] with V = Kernels::width floats per block row; a
// tensor is given by the address of row 0 of block 0 and the distance between blocks in floats. The
// padding channels of the last block are zero. All results are the same bits for any thread count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#ifdef _WIN32
#include <malloc.h>
#endif

namespace vk {

struct AlignedDelete {
    void operator()(float* p) const {
#ifdef _WIN32
        _aligned_free(p);
#else
        std::free(p);
#endif
    }
};
using Floats = std::unique_ptr<float[], AlignedDelete>;

// Uninitialised, page-aligned. Throws std::bad_alloc.
inline Floats make_floats(size_t count) {
    constexpr size_t page = 4096;
    const size_t bytes = (count * sizeof(float) + page) / page * page;
#ifdef _WIN32
    void* p = _aligned_malloc(bytes, page);
#else
    void* p = std::aligned_alloc(page, bytes);
#endif
    if (!p) throw std::bad_alloc();
    return Floats(static_cast<float*>(p));
}

// Memory that layers share between calls: grows to what the largest call needs, then stays.
class Workspace {
  public:
    float* get(size_t count) {
        if (count > count_) {
            data_.reset();
            count_ = 0;
            data_ = make_floats(count);
            count_ = count;
        }
        return data_.get();
    }
    size_t bytes() const { return count_ * sizeof(float); }

  private:
    Floats data_;
    size_t count_ = 0;
};

// A blocked tensor; data may be null where a tensor is optional.
struct View {
    float* data = nullptr;
    ptrdiff_t block = 0;

    View shifted(ptrdiff_t floats) const { return {data ? data + floats : nullptr, block}; }
};

// What happens to a convolution's sum v before it is stored:
// v += bias; v += residual; v = (v + addend) * scale; raw = v; act = max(v, slope * v).
struct Epilogue {
    View residual;
    View addend;
    float scale = 1.0f;
    View raw;
    View act;
    float slope = 0.0f;
};

// Output rows [lo, hi) of a convolution over an input of T rows, zero outside.
struct Rows {
    int T = 0;
    int lo = 0;
    int hi = 0;
};

struct ConvShape {
    int C_in, C_out, K, dilation;
};

// Length-preserving convolution. `algorithm`: 0 chooses per call by cost, 1 direct, 4 or 6
// Toom-Cook of that many rows (K = 3), 8, 16 or 32 the Fourier transform of that length.
class Conv {
  public:
    virtual ~Conv() = default;
    virtual void run(View x, Rows rows, const Epilogue& e, int threads, Workspace& workspace) = 0;
    // On the calling thread alone, with local_scratch() floats.
    virtual void run_local(View x, Rows rows, const Epilogue& e, float* scratch) = 0;
    virtual size_t local_scratch() const = 0;
    // Do ahead what the first run over T rows would do.
    virtual void prepare(int T, int threads) = 0;
    virtual size_t packed_bytes() const = 0;
};

// Transposed convolution: T rows to (T - 1) * stride - 2 * padding + K rows, raw and activated.
class Upsample {
  public:
    virtual ~Upsample() = default;
    virtual void run(View x, int T, View raw, View act, float slope, int threads,
                     Workspace& workspace) = 0;
    virtual size_t packed_bytes() const = 0;
};

// First convolution: caller's [C_in, T] with strides in floats; adds cond[C_out] unless null.
class Head {
  public:
    virtual ~Head() = default;
    virtual void run(const float* x, ptrdiff_t stride_c, ptrdiff_t stride_t, int T,
                     const float* cond, View raw, View act, float slope, int threads,
                     Workspace& workspace) = 0;
    virtual size_t packed_bytes() const = 0;
};

// Anti-aliased snake: 2x up, x + sin(alpha x)^2 * inv_beta, 2x down, edges replicated.
class Snake {
  public:
    virtual ~Snake() = default;
    virtual void run(View x, View y, int T, int threads) const = 0;
    // Rows [lo, hi) of the output, on the calling thread alone.
    virtual void run_local(View x, View y, Rows rows) const = 0;
};

// A residual unit: one or two convolutions, each behind its activation; no snakes for LeakyReLU.
struct Unit {
    std::vector<std::shared_ptr<Conv>> convs;
    std::vector<std::shared_ptr<Snake>> snakes;
    std::vector<int> halos;
};

struct StagePlan {
    int C;
    float slope;
    std::vector<std::vector<Unit>> branches;
    // Rows kept per chunk; 0 runs every layer over all rows.
    int chunk_rows;
};

// All residual units of a stage and the mean of its branches.
class Stage {
  public:
    virtual ~Stage() = default;
    // x, and leaky(x) for LeakyReLU stages, to the mean (raw), or leaky(mean, next_slope) (act).
    virtual void run(View x, View x_act, int T, View raw, View act, float next_slope, int threads,
                     Workspace& workspace) = 0;
};

// Last convolution to one channel, tanh or clamp to [-1, 1], contiguous output.
class Tail {
  public:
    virtual ~Tail() = default;
    virtual void run(View x, int T, float* out, int threads) const = 0;
};

struct Kernels {
    const char* name;
    int width;
    std::shared_ptr<Conv> (*conv)(ConvShape, const float* w, const float* bias, int algorithm);
    std::shared_ptr<Upsample> (*upsample)(int C_in, int C_out, int K, int stride, int padding,
                                          const float* w, const float* bias);
    std::shared_ptr<Head> (*head)(ConvShape, const float* w, const float* bias);
    std::shared_ptr<Snake> (*snake)(int C, const float* alpha, const float* inv_beta,
                                    const float* up, const float* down);
    std::shared_ptr<Stage> (*stage)(StagePlan);
    std::shared_ptr<Tail> (*tail)(int C, int K, const float* w, float bias, bool clamp);
};

// Instruction sets this processor and this build have, best first.
std::vector<std::string> available_isas();
// Throws std::invalid_argument for one that is not available.
const Kernels& kernels(const std::string& isa);

}  // namespace vk

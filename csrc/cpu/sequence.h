// The packed layers of a vocoder, run in one call.
//
// Tensors between the layers live in slots: integers the caller chooses, resolved to places in the
// caller's pool on every run. Layers run in the order they were added; -1 stands for no tensor.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "cpu/layers.h"

namespace vk {

constexpr int kNoSlot = -1;

// Where a slot lies in the pool and how many rows lie between its blocks.
struct SlotPlace {
    size_t offset_bytes;
    int64_t t_stride;
};

struct RunArguments {
    const float* x = nullptr;  // [C_in, T], strides in floats; null without a head
    int64_t stride_c = 0;
    int64_t stride_t = 0;
    int T = 0;  // rows of x, or of the slots that no layer writes
    const float* cond = nullptr;
    int cond_size = 0;
    char* pool = nullptr;
    size_t pool_bytes = 0;
    std::vector<SlotPlace> slots;
    float* out = nullptr;
    int64_t out_size = 0;
    int threads = 1;
    bool timed = false;
};

struct UnitWeights {
    struct Layer {
        int K, dilation;
        const float* w;
        const float* bias;
        const float* alpha;     // null for LeakyReLU
        const float* inv_beta;  // null for LeakyReLU
    };
    std::vector<Layer> layers;
};

struct StageDescription {
    int C;
    float slope;  // of the LeakyReLU before every convolution; unused with snakes
    std::vector<std::vector<UnitWeights>> branches;
    const float* up = nullptr;  // 12 taps each, with snakes
    const float* down = nullptr;
    int algorithm;
    int chunk_rows;  // 0 runs every layer over all rows, -1 chooses by cost
};

class Sequence {
  public:
    explicit Sequence(const std::string& isa) : kernels_(kernels(isa)) {}

    void add_head(int raw, int act, float slope, ConvShape shape, const float* w,
                  const float* bias);
    void add_upsample(int x, int raw, int act, float slope, int C_in, int C_out, int K, int stride,
                      int padding, const float* w, const float* bias);
    void add_conv(int x, int residual, int addend, float scale, int raw, int act, float slope,
                  ConvShape shape, const float* w, const float* bias, int algorithm);
    void add_snake(int x, int y, int C, const float* alpha, const float* inv_beta, const float* up,
                   const float* down);
    void add_stage(int x, int x_act, int raw, int act, float next_slope,
                   const StageDescription& stage);
    void add_tail(int x, int C, int K, const float* w, float bias, bool clamp);

    // One caller at a time; others wait.
    void run(const RunArguments& arguments);
    // Does ahead what the first run over T rows would do.
    void prepare(int T, int threads);
    // Samples that run() writes for T rows; 0 without a tail.
    int64_t out_length(int T) const;

    const Kernels& instruction_set() const { return kernels_; }
    const std::vector<std::string>& names() const { return names_; }
    // Of the last timed run, microseconds per step.
    const std::vector<double>& timings_us() const { return timings_us_; }
    size_t packed_bytes() const;
    size_t workspace_bytes() const { return workspace_.bytes(); }

  private:
    struct Call;
    struct Step {
        std::vector<std::pair<int, int>> reads;   // slot, channels
        std::vector<std::pair<int, int>> writes;  // slot, channels
        std::function<void(Call&)> run;
        std::function<size_t()> packed_bytes;
        // Rows written for rows read; empty for as many.
        std::function<int64_t(int64_t)> length;
        std::function<void(int T, int threads)> prepare;
        bool from_caller = false;
        bool to_caller = false;
        bool in_place = false;
        int cond_size = 0;
    };
    using RowsOfSlots = std::vector<int64_t>;

    static void check_tensors(const char* layer, const Step& step);
    void add(const char* layer, Step step);
    int slot_count() const;
    static int64_t rows_in(const Step& step, const RowsOfSlots& rows, int64_t T);
    static int64_t rows_out(const Step& step, int64_t in);
    static void advance(const Step& step, RowsOfSlots& rows, int64_t T);
    void check(const RunArguments& a) const;
    void check_step(const std::string& name, const Step& step, const RunArguments& a,
                    const RowsOfSlots& rows) const;
    void check_extent(const std::string& name, int slot, int channels, int64_t count,
                      const RunArguments& a) const;

    const Kernels& kernels_;
    std::vector<Step> steps_;
    std::vector<std::string> names_;
    std::vector<double> timings_us_;
    Workspace workspace_;
    std::mutex mutex_;
};

}  // namespace vk

#include "cpu/sequence.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "cpu/conv_policy.h"

namespace vk {

namespace {

template <typename... Parts>
std::string text(const Parts&... parts) {
    std::string all;
    const auto append = [&all](const auto& part) {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>)
            all += std::to_string(part);
        else
            all += part;
    };
    (append(parts), ...);
    return all;
}

void require(bool ok, const std::string& message) {
    if (!ok) throw std::invalid_argument(message);
}

void require_positive(const char* layer, const char* name, int64_t value) {
    require(value > 0, text(layer, ": ", name, " must be positive, got ", value));
}

void check_conv(const char* layer, ConvShape s, const float* w) {
    require_positive(layer, "C_in", s.C_in);
    require_positive(layer, "C_out", s.C_out);
    require_positive(layer, "K", s.K);
    require_positive(layer, "dilation", s.dilation);
    require(s.K % 2 == 1, text(layer, ": K must be odd to keep the length, got ", s.K));
    require(w != nullptr, text(layer, ": the address of the weights is 0"));
}

void check_algorithm(const char* layer, int algorithm) {
    for (int known : {0, 1, 4, 6, 8, 16, 32}) {
        if (algorithm == known) return;
    }
    throw std::invalid_argument(text(layer,
                                     ": algorithm must be 0 (chosen by cost), 1 (direct), 4 or 6 "
                                     "(Toom-Cook) or 8, 16 or 32 (Fourier), got ",
                                     algorithm));
}

}  // namespace

struct Sequence::Call {
    const RunArguments& arguments;
    const std::vector<int64_t>& rows;
    int width;
    Workspace& workspace;

    View view(int slot) const {
        if (slot == kNoSlot) return {};
        const SlotPlace& place = arguments.slots[slot];
        return {reinterpret_cast<float*>(arguments.pool + place.offset_bytes),
                static_cast<ptrdiff_t>(place.t_stride) * width};
    }
    int length(int slot) const { return static_cast<int>(rows[slot]); }
};

void Sequence::check_tensors(const char* layer, const Step& step) {
    for (const auto* list : {&step.reads, &step.writes}) {
        for (const auto& tensor : *list)
            require(tensor.first >= kNoSlot,
                    text(layer, ": a slot must be -1 or more, got ", tensor.first));
    }
    require(step.reads.empty() || step.reads.front().first != kNoSlot,
            text(layer, ": needs an input slot, got none"));
    bool writes = step.to_caller;
    for (const auto& tensor : step.writes)
        writes = writes || tensor.first != kNoSlot;
    require(writes, text(layer, ": needs a slot for the raw or the activated output, got none"));
    for (size_t i = 1; i < step.writes.size(); ++i)
        require(step.writes[i].first == kNoSlot || step.writes[i].first != step.writes[0].first,
                text(layer, ": slot ", step.writes[i].first, " is written twice"));
    // Only what is added to a result may lie where the result goes.
    for (size_t i = 0; i < (step.in_place ? 1 : step.reads.size()); ++i) {
        for (const auto& written : step.writes)
            require(step.reads[i].first == kNoSlot || step.reads[i].first != written.first,
                    text(layer, ": slot ", written.first, " is both read and written"));
    }
}

void Sequence::add(const char* layer, Step step) {
    names_.push_back(text(layer, " ", names_.size()));
    steps_.push_back(std::move(step));
}

void Sequence::add_head(int raw, int act, float slope, ConvShape shape, const float* w,
                        const float* bias) {
    check_conv("head", shape, w);
    Step step;
    step.writes = {{raw, shape.C_out}, {act, shape.C_out}};
    step.from_caller = true;
    step.cond_size = shape.C_out;
    check_tensors("head", step);
    auto layer = kernels_.head(shape, w, bias);
    step.run = [=](Call& c) {
        const RunArguments& a = c.arguments;
        layer->run(a.x, a.stride_c, a.stride_t, a.T, a.cond, c.view(raw), c.view(act), slope,
                   a.threads, c.workspace);
    };
    step.packed_bytes = [=] { return layer->packed_bytes(); };
    add("head", std::move(step));
}

void Sequence::add_upsample(int x, int raw, int act, float slope, int C_in, int C_out, int K,
                            int stride, int padding, const float* w, const float* bias) {
    require_positive("upsample", "C_in", C_in);
    require_positive("upsample", "C_out", C_out);
    require_positive("upsample", "K", K);
    require_positive("upsample", "stride", stride);
    require(padding >= 0, text("upsample: padding must be 0 or more, got ", padding));
    require(w != nullptr, "upsample: the address of the weights is 0");
    Step step;
    step.reads = {{x, C_in}};
    step.writes = {{raw, C_out}, {act, C_out}};
    step.length = [=](int64_t rows) { return (rows - 1) * stride - 2 * int64_t{padding} + K; };
    check_tensors("upsample", step);
    auto layer = kernels_.upsample(C_in, C_out, K, stride, padding, w, bias);
    step.run = [=](Call& c) {
        layer->run(c.view(x), c.length(x), c.view(raw), c.view(act), slope, c.arguments.threads,
                   c.workspace);
    };
    step.packed_bytes = [=] { return layer->packed_bytes(); };
    add("upsample", std::move(step));
}

void Sequence::add_conv(int x, int residual, int addend, float scale, int raw, int act, float slope,
                        ConvShape shape, const float* w, const float* bias, int algorithm) {
    check_conv("conv", shape, w);
    check_algorithm("conv", algorithm);
    Step step;
    step.reads = {{x, shape.C_in}, {residual, shape.C_out}, {addend, shape.C_out}};
    step.writes = {{raw, shape.C_out}, {act, shape.C_out}};
    step.in_place = true;
    check_tensors("conv", step);
    auto layer = kernels_.conv(shape, w, bias, algorithm);
    step.run = [=](Call& c) {
        Epilogue e;
        e.residual = c.view(residual);
        e.addend = c.view(addend);
        e.scale = scale;
        e.raw = c.view(raw);
        e.act = c.view(act);
        e.slope = slope;
        const int T = c.length(x);
        layer->run(c.view(x), {T, 0, T}, e, c.arguments.threads, c.workspace);
    };
    step.prepare = [=](int T, int threads) { layer->prepare(T, threads); };
    step.packed_bytes = [=] { return layer->packed_bytes(); };
    add("conv", std::move(step));
}

void Sequence::add_snake(int x, int y, int C, const float* alpha, const float* inv_beta,
                         const float* up, const float* down) {
    require_positive("snake", "C", C);
    require(alpha && inv_beta && up && down, "snake: the address of a parameter is 0");
    Step step;
    step.reads = {{x, C}};
    step.writes = {{y, C}};
    check_tensors("snake", step);
    auto layer = kernels_.snake(C, alpha, inv_beta, up, down);
    step.run = [=](Call& c) { layer->run(c.view(x), c.view(y), c.length(x), c.arguments.threads); };
    add("snake", std::move(step));
}

void Sequence::add_stage(int x, int x_act, int raw, int act, float next_slope,
                         const StageDescription& d) {
    require_positive("stage", "C", d.C);
    require(!d.branches.empty(), "stage: needs at least one branch, got none");
    check_algorithm("stage", d.algorithm);
    require(d.chunk_rows >= -1, text("stage: chunk_rows must be -1 or more, got ", d.chunk_rows));
    Step step;
    step.reads = {{x, d.C}, {x_act, d.C}};
    step.writes = {{raw, d.C}, {act, d.C}};
    check_tensors("stage", step);
    StagePlan plan{
        d.C, d.slope, {}, d.chunk_rows < 0 ? stage_chunk_rows(d.C, kernels_.width) : d.chunk_rows};
    std::vector<std::shared_ptr<Conv>> convs;
    bool snakes = false;
    for (const auto& branch : d.branches) {
        plan.branches.emplace_back();
        for (const UnitWeights& weights : branch) {
            Unit unit;
            for (const auto& l : weights.layers) {
                const ConvShape shape{d.C, d.C, l.K, l.dilation};
                check_conv("stage", shape, l.w);
                unit.convs.push_back(kernels_.conv(shape, l.w, l.bias, d.algorithm));
                unit.halos.push_back(l.dilation * (l.K - 1) / 2);
                convs.push_back(unit.convs.back());
                if (!l.alpha) continue;
                require(l.inv_beta && d.up && d.down, "stage: a snake without all its parameters");
                unit.snakes.push_back(kernels_.snake(d.C, l.alpha, l.inv_beta, d.up, d.down));
                snakes = true;
            }
            require(unit.snakes.empty() || unit.snakes.size() == unit.convs.size(),
                    "stage: a unit needs a snake for every convolution or none");
            plan.branches.back().push_back(std::move(unit));
        }
    }
    require(snakes || x_act != kNoSlot, "stage: LeakyReLU stages need the activated input too");
    auto layer = kernels_.stage(std::move(plan));
    step.run = [=](Call& c) {
        layer->run(c.view(x), c.view(x_act), c.length(x), c.view(raw), c.view(act), next_slope,
                   c.arguments.threads, c.workspace);
    };
    step.prepare = [=](int T, int threads) {
        for (const auto& conv : convs)
            conv->prepare(T, threads);
    };
    step.packed_bytes = [=] {
        size_t total = 0;
        for (const auto& conv : convs)
            total += conv->packed_bytes();
        return total;
    };
    add("stage", std::move(step));
}

void Sequence::add_tail(int x, int C, int K, const float* w, float bias, bool clamp) {
    check_conv("tail", {C, 1, K, 1}, w);
    Step step;
    step.reads = {{x, C}};
    step.to_caller = true;
    check_tensors("tail", step);
    auto layer = kernels_.tail(C, K, w, bias, clamp);
    step.run = [=](Call& c) {
        layer->run(c.view(x), c.length(x), c.arguments.out, c.arguments.threads);
    };
    add("tail", std::move(step));
}

int Sequence::slot_count() const {
    int count = 0;
    for (const Step& step : steps_) {
        for (const auto* list : {&step.reads, &step.writes}) {
            for (const auto& tensor : *list)
                count = std::max(count, tensor.first + 1);
        }
    }
    return count;
}

int64_t Sequence::rows_in(const Step& step, const RowsOfSlots& rows, int64_t T) {
    return step.reads.empty() ? T : rows[step.reads.front().first];
}

int64_t Sequence::rows_out(const Step& step, int64_t in) {
    return step.length ? step.length(in) : in;
}

void Sequence::advance(const Step& step, RowsOfSlots& rows, int64_t T) {
    const int64_t out = rows_out(step, rows_in(step, rows, T));
    for (const auto& tensor : step.writes) {
        if (tensor.first != kNoSlot) rows[tensor.first] = out;
    }
}

size_t Sequence::packed_bytes() const {
    size_t total = 0;
    for (const Step& step : steps_)
        total += step.packed_bytes ? step.packed_bytes() : 0;
    return total;
}

int64_t Sequence::out_length(int T) const {
    RowsOfSlots rows(slot_count(), T);
    for (const Step& step : steps_) {
        if (step.to_caller) return rows_in(step, rows, T);
        advance(step, rows, T);
    }
    return 0;
}

void Sequence::prepare(int T, int threads) {
    require(T > 0, text("prepare: T must be positive, got ", T));
    require(threads > 0, text("prepare: threads must be positive, got ", threads));
    const std::lock_guard<std::mutex> lock(mutex_);
    RowsOfSlots rows(slot_count(), T);
    for (const Step& step : steps_) {
        if (step.prepare) step.prepare(static_cast<int>(rows_in(step, rows, T)), threads);
        advance(step, rows, T);
    }
}

void Sequence::check_extent(const std::string& name, int slot, int channels, int64_t count,
                            const RunArguments& a) const {
    if (slot == kNoSlot) return;
    const SlotPlace& place = a.slots[slot];
    require(place.t_stride >= count, text("run: ", name, " needs ", count, " rows in slot ", slot,
                                          ", but its t_stride is ", place.t_stride));
    require(place.t_stride <= std::numeric_limits<int>::max(),
            text("run: the t_stride of slot ", slot, " is ", place.t_stride, ", more than 2^31"));
    const uint64_t blocks = (channels + kernels_.width - 1) / kernels_.width;
    const uint64_t bytes = ((blocks - 1) * place.t_stride + count) * kernels_.width * sizeof(float);
    require(place.offset_bytes % sizeof(float) == 0 && bytes <= a.pool_bytes &&
                place.offset_bytes <= a.pool_bytes - bytes,
            text("run: ", name, " needs ", bytes, " bytes at ", place.offset_bytes, " for slot ",
                 slot, ", but the pool has ", a.pool_bytes));
}

void Sequence::check_step(const std::string& name, const Step& step, const RunArguments& a,
                          const RowsOfSlots& rows) const {
    const int64_t in = rows_in(step, rows, a.T);
    const int64_t out = rows_out(step, in);
    constexpr int64_t most_rows = std::numeric_limits<int>::max() / 16;
    require(out > 0 && out <= most_rows, text("run: ", name, " would make ", out, " rows of ", in,
                                              "; it can make 1 to ", most_rows));
    require(!step.from_caller || a.x, text("run: ", name, " needs x, but its address is 0"));
    require(!step.from_caller || !a.cond || a.cond_size == step.cond_size,
            text("run: cond must have ", step.cond_size, " values, got ", a.cond_size));
    require(!step.to_caller || (a.out && a.out_size >= in),
            text("run: ", name, " makes ", in, " samples, but out holds ", a.out_size));
    for (const auto& [slot, channels] : step.reads) {
        check_extent(name, slot, channels, in, a);
        require(slot == kNoSlot || rows[slot] == in,
                text("run: ", name, " reads slot ", slot, " of ", slot == kNoSlot ? 0 : rows[slot],
                     " rows beside one of ", in));
    }
    for (const auto& [slot, channels] : step.writes)
        check_extent(name, slot, channels, out, a);
}

void Sequence::check(const RunArguments& a) const {
    require(a.T > 0, text("run: T must be positive, got ", a.T));
    require(a.threads > 0, text("run: threads must be positive, got ", a.threads));
    const int slots = slot_count();
    require(static_cast<int>(a.slots.size()) >= slots,
            text("run: the layers use ", slots, " slots, got places for ", a.slots.size()));
    RowsOfSlots rows(a.slots.size(), a.T);
    for (size_t i = 0; i < steps_.size(); ++i) {
        check_step(names_[i], steps_[i], a, rows);
        advance(steps_[i], rows, a.T);
    }
}

void Sequence::run(const RunArguments& a) {
    const std::lock_guard<std::mutex> lock(mutex_);
    check(a);
    RowsOfSlots rows(a.slots.size(), a.T);
    Call call{a, rows, kernels_.width, workspace_};
    timings_us_.assign(a.timed ? steps_.size() : 0, 0.0);
    using Clock = std::chrono::steady_clock;
    for (size_t i = 0; i < steps_.size(); ++i) {
        const auto start = a.timed ? Clock::now() : Clock::time_point();
        steps_[i].run(call);
        if (a.timed)
            timings_us_[i] =
                std::chrono::duration<double, std::micro>(Clock::now() - start).count();
        advance(steps_[i], rows, a.T);
    }
}

}  // namespace vk

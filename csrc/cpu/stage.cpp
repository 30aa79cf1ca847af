// All residual units of a stage: y = mean over branches of unit_n(... unit_1(x)).
//
// A chunk of rows goes through all layers while its tensors stay in one core's L2; the rows around
// it that its outputs depend on are computed again by the neighbouring chunks. Chunks depend on T
// alone and are handed out to threads as they become free. Buffers, each of a chunk and its halo:
// `stream` x of the branch, `a` and `b` the input of a convolution and the next one's, `mean`.
#include <algorithm>

#include "cpu/factories.h"
#include "cpu/simd.h"
#include "cpu/snake.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

namespace {

constexpr int kBuffers = 4;

struct StageIo {
    View x, x_act, raw, act;
    float next_slope;
    int T;
};

class StageLayer final : public Stage {
  public:
    explicit StageLayer(StagePlan plan) : plan_(std::move(plan)), blocks_((plan_.C + V - 1) / V) {
        for (const auto& branch : plan_.branches) {
            int reach = 0;
            for (const Unit& unit : branch)
                reach += unit_halo(unit);
            halo_ = std::max(halo_, reach);
        }
    }

    void run(View x, View x_act, int T, View raw, View act, float next_slope, int threads,
             Workspace& workspace) override {
        const StageIo io{x, x_act, raw, act, next_slope, T};
        const int chunk = chunk_rows(T);
        const bool whole = chunk == T;
        const int rows = std::min(T, chunk + 2 * halo_);
        // A line more, so that blocks do not share cache sets.
        const ptrdiff_t block = static_cast<ptrdiff_t>(rows) * V + 16;
        const size_t buffers = kBuffers * static_cast<size_t>(block) * blocks_;
        size_t scratch = 0;
        for_each_conv([&](Conv& conv) {
            conv.prepare(T, threads);
            scratch = std::max(scratch, conv.local_scratch());
        });
        if (whole) {
            float* data = workspace.get(buffers);
            run_rows(
                io, {T, 0, T}, data, block,
                [&](Conv& conv, View in, Rows r, const Epilogue& e) {
                    conv.run(in, r, e, threads, conv_workspace_);
                },
                threads);
            return;
        }
        const size_t per_thread = buffers + scratch;
        float* data = workspace.get(per_thread * threads);
        parallel_for(threads, (T + chunk - 1) / chunk, [&](int task, int thread) {
            float* mine = data + thread * per_thread;
            const int lo = task * chunk;
            const Rows kept{T, lo, std::min(lo + chunk, T)};
            run_rows(
                io, kept, mine, block,
                [&](Conv& conv, View in, Rows r, const Epilogue& e) {
                    conv.run_local(in, r, e, mine + buffers);
                },
                1);
        });
    }

  private:
    static int unit_halo(const Unit& unit) {
        int reach = 0;
        for (int halo : unit.halos)
            reach += halo;
        return reach + static_cast<int>(unit.snakes.size()) * kSnakeHalo;
    }

    template <typename Visit>
    void for_each_conv(Visit visit) const {
        for (const auto& branch : plan_.branches) {
            for (const Unit& unit : branch) {
                for (const auto& conv : unit.convs)
                    visit(*conv);
            }
        }
    }

    // Equal chunks, an even number of them for two cores.
    int chunk_rows(int T) const {
        if (plan_.chunk_rows == 0 || T < 2 * plan_.chunk_rows) return T;
        const int chunks = (T + 2 * plan_.chunk_rows - 1) / (2 * plan_.chunk_rows) * 2;
        return (T + chunks - 1) / chunks;
    }

    static Rows widened(Rows rows, int halo) {
        return {rows.T, std::max(rows.lo - halo, 0), std::min(rows.hi + halo, rows.T)};
    }

    template <typename RunConv>
    void run_rows(const StageIo& io, Rows kept, float* data, ptrdiff_t block, RunConv run_conv,
                  int threads) const {
        const ptrdiff_t first = widened(kept, halo_).lo;
        View buffers[kBuffers];
        for (int i = 0; i < kBuffers; ++i)
            buffers[i] = View{data + i * block * blocks_, block}.shifted(-first * V);
        const int branches = static_cast<int>(plan_.branches.size());
        for (int j = 0; j < branches; ++j) {
            Epilogue last;
            if (j > 0) last.addend = buffers[3];
            if (j + 1 < branches) {
                last.raw = buffers[3];
            } else {
                last.scale = 1.0f / static_cast<float>(branches);
                last.raw = io.raw;
                last.act = io.act;
                last.slope = io.next_slope;
            }
            run_branch(plan_.branches[j], io, kept, buffers, last, run_conv, threads);
        }
    }

    template <typename RunConv>
    void run_branch(const std::vector<Unit>& branch, const StageIo& io, Rows kept,
                    const View* buffers, const Epilogue& last, RunConv run_conv,
                    int threads) const {
        int reach = 0;
        for (const Unit& unit : branch)
            reach += unit_halo(unit);
        View stream = io.x, in = io.x_act;
        for (size_t u = 0; u < branch.size(); ++u) {
            const Unit& unit = branch[u];
            View h = stream;
            for (size_t i = 0; i < unit.convs.size(); ++i) {
                const bool of_unit = i + 1 == unit.convs.size();
                const bool of_branch = of_unit && u + 1 == branch.size();
                if (!unit.snakes.empty()) {
                    reach -= kSnakeHalo;
                    in = buffers[1];
                    run_snake(*unit.snakes[i], h, in, widened(kept, reach), threads);
                }
                reach -= unit.halos[i];
                Epilogue e;
                if (of_branch) e = last;
                if (of_unit) e.residual = stream;
                const View next = buffers[in.data == buffers[1].data ? 2 : 1];
                if (!of_branch) {
                    if (of_unit)
                        e.raw = buffers[0];
                    else if (!unit.snakes.empty())
                        e.raw = next;
                    if (unit.snakes.empty()) e.act = next;
                    e.slope = plan_.slope;
                }
                run_conv(*unit.convs[i], in, widened(kept, reach), e);
                h = of_unit ? buffers[0] : next;
                in = next;
            }
            stream = buffers[0];
        }
    }

    static void run_snake(const Snake& snake, View x, View y, Rows rows, int threads) {
        if (rows.lo == 0 && rows.hi == rows.T)
            snake.run(x, y, rows.T, threads);
        else
            snake.run_local(x, y, rows);
    }

    StagePlan plan_;
    int blocks_;
    int halo_ = 0;
    Workspace conv_workspace_;
};

}  // namespace

std::shared_ptr<Stage> make_stage(StagePlan plan) {
    return std::make_shared<StageLayer>(std::move(plan));
}

}  // namespace VK_ISA
}  // namespace vk

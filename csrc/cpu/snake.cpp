#include "cpu/snake.h"

#include "cpu/factories.h"
#include "cpu/threads.h"

namespace vk {
namespace VK_ISA {

namespace {

class SnakeLayer final : public Snake {
  public:
    SnakeLayer(int C, const float* alpha, const float* inv_beta, const float* up, const float* down)
        : blocks_((C + V - 1) / V),
          alpha_(make_floats(static_cast<size_t>(blocks_) * V)),
          inv_beta_(make_floats(static_cast<size_t>(blocks_) * V)),
          filter_(up, down) {
        for (int c = 0; c < blocks_ * V; ++c) {
            alpha_[c] = c < C ? alpha[c] : 0.0f;
            inv_beta_[c] = c < C ? inv_beta[c] : 0.0f;
        }
    }

    void run(View x, View y, int T, int threads) const override {
        constexpr int task_rows = 8 * kSnakeRows;
        const int parts = (T + task_rows - 1) / task_rows;
        parallel_for(threads, blocks_ * parts, [&](int task, int) {
            const int lo = task % parts * task_rows;
            block_rows(task / parts, x, y, {T, lo, std::min(lo + task_rows, T)});
        });
    }

    void run_local(View x, View y, Rows rows) const override {
        for (int block = 0; block < blocks_; ++block)
            block_rows(block, x, y, rows);
    }

  private:
    void block_rows(int block, View x, View y, Rows rows) const {
        const vec alpha = load(alpha_.get() + block * V);
        const vec inv_beta = load(inv_beta_.get() + block * V);
        for (int lo = rows.lo; lo < rows.hi; lo += kSnakeRows) {
            snake_rows(x.data + block * x.block, y.data + block * y.block,
                       {rows.T, lo, std::min(lo + kSnakeRows, rows.hi)}, filter_, alpha, inv_beta);
        }
    }

    int blocks_;
    Floats alpha_, inv_beta_;
    SnakeFilter filter_;
};

}  // namespace

std::shared_ptr<Snake> make_snake(int C, const float* alpha, const float* inv_beta, const float* up,
                                  const float* down) {
    return std::make_shared<SnakeLayer>(C, alpha, inv_beta, up, down);
}

}  // namespace VK_ISA
}  // namespace vk

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "addresses.h"
#include "bindings.h"
#include "device.h"
#include "residual_branch.h"
#include "residual_branch_table.h"

namespace py = pybind11;

namespace vk {
namespace cuda {
namespace {

// x, out, weight, bias, K, dilation of every unit.
using BranchTuple = std::tuple<Address, Address, Address, Address, int, std::vector<int>>;

void residual_branch(const std::vector<BranchTuple>& branches, Address ranges, int B, int64_t T_cap,
                     int C, int convs, int scale, int extra, float slope, int dtype, int tile,
                     int device, Address stream) {
    constexpr const char* kOp = "residual_branch";
    check_count(branches, kBranchMaxBranches, kOp, "branches");
    BranchParams p = {};
    for (size_t j = 0; j < branches.size(); ++j) {
        const auto& [x, out, weight, bias, K, dilation] = branches[j];
        check_count(dilation, kBranchMaxUnits, kOp, "units of a branch");
        Branch& branch = p.branches[j];
        branch.x = as<float>(x);
        branch.out = as<float>(out);
        branch.weight = as<void>(weight);
        branch.bias = as<float>(bias);
        branch.K = K;
        branch.units = static_cast<int>(dilation.size());
        std::copy(dilation.begin(), dilation.end(), branch.dilation);
    }
    p.ranges = as<int32_t>(ranges);
    p.T_cap = T_cap;
    p.n_convs = convs;
    p.scale = scale;
    p.extra = extra;
    p.slope = slope;
    const DeviceGuard guard(device);
    launch_residual_branch(p, static_cast<int>(branches.size()), B, C, static_cast<DType>(dtype),
                           tile, as_stream(stream));
}

std::vector<std::array<int, 4>> branch_tiles(int C) {
    std::vector<std::array<int, 4>> tiles;
    for (int index = 0; index < kBranchTiles; ++index) {
        const NarrowTile tile = branch_tile(C, index);
        if (tile.warps_m)
            tiles.push_back({tile.warps_m, tile.warps_n, tile.m_tiles, tile.ctas_per_sm});
    }
    return tiles;
}

}  // namespace

void bind_residual_branch(py::module_& m) {
    m.def(
        "branch_tiles", &branch_tiles, py::arg("C"),
        "(warps_m, warps_n, m_tiles, ctas_per_sm) of the residual branch's tiles, largest first.");
    m.def(
        "branch_shared_bytes",
        [](int C, int tile, int margin) {
            return branch_shared_bytes(branch_tile(C, tile), C, margin);
        },
        py::arg("C"), py::arg("tile"), py::arg("margin"));
    m.def("residual_branch", &residual_branch, py::kw_only(), py::arg("branches"),
          py::arg("ranges"), py::arg("B"), py::arg("T_cap"), py::arg("C"), py::arg("convs"),
          py::arg("scale"), py::arg("extra"), py::arg("slope"), py::arg("dtype"), py::arg("tile"),
          py::arg("device"), py::arg("stream"));
}

}  // namespace cuda
}  // namespace vk

#include "bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "addresses.h"
#include "alias_free.h"
#include "conv.h"
#include "device.h"
#include "residual_unit.h"
#include "residual_unit_table.h"
#include "tail.h"

namespace py = pybind11;

namespace vk {
namespace cuda {
namespace {

py::dict properties(int device) {
    const DeviceProperties p = device_properties(device);
    py::dict result;
    result["arch"] = p.arch;
    result["multiprocessors"] = p.multiprocessors;
    result["shared_bytes"] = p.shared_bytes;
    result["shared_bytes_per_multiprocessor"] = p.shared_bytes_per_multiprocessor;
    return result;
}

// x, weight, bias, residual, stream, activated, K, dilation, first_tap.
using ConvBranchTuple =
    std::tuple<Address, Address, Address, Address, Address, Address, int, int, int>;

void set_branches(ConvParams& p, const std::vector<ConvBranchTuple>& branches) {
    check_count(branches, kConvMaxBranches, "conv", "branches");
    for (size_t j = 0; j < branches.size(); ++j) {
        const auto& [x, weight, bias, residual, stream, activated, K, dilation, first_tap] =
            branches[j];
        p.branches[j] = {as<void>(x),
                         as<void>(weight),
                         as<float>(bias),
                         as<void>(residual),
                         as<float>(stream),
                         as<void>(activated),
                         K,
                         dilation,
                         first_tap};
    }
}

void conv(const std::vector<ConvBranchTuple>& branches, Address ranges, int B, int T_cap, int C_in,
          int C_out, int scale, int extra, float slope, float undo, bool mean, int dtype, int tile,
          int device, Address stream) {
    ConvParams p = {};
    set_branches(p, branches);
    p.inputs = static_cast<int>(branches.size());
    p.undo = undo;
    p.ranges = as<int32_t>(ranges);
    p.scale_in = p.scale_out = scale;
    p.extra_in = p.extra_out = extra;
    p.T_in_cap = p.T_out_cap = T_cap;
    p.C_in = C_in;
    p.C_out = C_out;
    p.stride = 1;
    p.slope_out = slope;
    const DeviceGuard guard(device);
    launch_conv(p, p.inputs, B, mean ? ConvSource::kSummed : ConvSource::kActivated,
                static_cast<DType>(dtype), tile, as_stream(stream));
}

void upsample(const std::vector<Address>& inputs, bool mean, Address weight, Address bias,
              Address out_stream, Address activated, Address ranges, int B, int T_in_cap,
              int T_out_cap, int C_in, int C_out, int taps, int stride, int padding, int scale_in,
              int extra_in, int scale_out, int extra_out, float slope_in, float slope_out,
              int dtype, int tile, int device, Address stream) {
    check_count(inputs, mean ? kConvMaxBranches : 1, "upsample", "inputs");
    ConvParams p = {};
    p.branches[0] = {as<void>(inputs[0]),
                     as<void>(weight),
                     as<float>(bias),
                     nullptr,
                     as<float>(out_stream),
                     as<void>(activated),
                     taps,
                     1,
                     1 - taps};
    for (size_t j = 0; j < inputs.size(); ++j)
        p.means[j] = as<float>(inputs[j]);
    p.inputs = static_cast<int>(inputs.size());
    p.slope_in = slope_in;
    p.slope_out = slope_out;
    p.ranges = as<int32_t>(ranges);
    p.scale_in = scale_in;
    p.extra_in = extra_in;
    p.scale_out = scale_out;
    p.extra_out = extra_out;
    p.T_in_cap = T_in_cap;
    p.T_out_cap = T_out_cap;
    p.C_in = C_in;
    p.C_out = C_out;
    p.stride = stride;
    p.padding = padding;
    const DeviceGuard guard(device);
    launch_conv(p, 1, B, mean ? ConvSource::kMean : ConvSource::kActivated,
                static_cast<DType>(dtype), tile, as_stream(stream));
}

void head(Address x, int x_dtype, int64_t stride_b, int64_t stride_c, int64_t stride_t,
          Address source, Address weight, Address bias, Address cond, int64_t cond_stride,
          Address ranges, Address out, int B, int T_cap, int C_in, int C_out, int K, int dilation,
          int scale, int extra, float slope, int dtype, int tile, int device, Address stream) {
    require(source != 0, "head", "source: expected the address of int32 [B, 2], got none.");
    ConvParams p = {};
    p.branches[0] = {as<void>(x), as<void>(weight), as<float>(bias),
                     nullptr,     nullptr,          as<void>(out),
                     K,           dilation,         -dilation * (K - 1) / 2};
    p.stride_b = stride_b;
    p.stride_c = stride_c;
    p.stride_t = stride_t;
    p.x_dtype = static_cast<DType>(x_dtype);
    p.source = as<int32_t>(source);
    p.cond = as<float>(cond);
    p.cond_stride = cond_stride;
    p.slope_out = slope;
    p.ranges = as<int32_t>(ranges);
    p.scale_in = p.scale_out = scale;
    p.extra_in = p.extra_out = extra;
    p.T_in_cap = p.T_out_cap = T_cap;
    p.C_in = C_in;
    p.C_out = C_out;
    p.stride = 1;
    const DeviceGuard guard(device);
    launch_conv(p, 1, B, ConvSource::kStrided, static_cast<DType>(dtype), tile, as_stream(stream));
}

// x, y, alpha, inv_beta.
using AliasFreeTuple = std::tuple<Address, Address, Address, Address>;

void alias_free(const std::vector<AliasFreeTuple>& branches, Address filters, Address ranges, int B,
                int T_cap, int C, int scale, int extra, int dtype_in, int dtype_out, int tile,
                int device, Address stream) {
    AliasFreeParams p = {};
    check_count(branches, std::size(p.branches), "alias_free", "branches");
    for (size_t j = 0; j < branches.size(); ++j) {
        const auto& [x, y, alpha, inv_beta] = branches[j];
        p.branches[j] = {as<void>(x), as<void>(y), as<float>(alpha), as<float>(inv_beta)};
    }
    p.filters = as<float>(filters);
    p.ranges = as<int32_t>(ranges);
    p.T_cap = T_cap;
    p.C = C;
    p.scale = scale;
    p.extra = extra;
    p.tile = tile;
    const DeviceGuard guard(device);
    launch_alias_free(p, static_cast<int>(branches.size()), B, static_cast<DType>(dtype_in),
                      static_cast<DType>(dtype_out), as_stream(stream));
}

void tail(const std::vector<Address>& inputs, Address weight, Address bias, Address alpha,
          Address inv_beta, Address filters, Address out, Address ranges, int64_t out_stride, int B,
          int T_cap, int C, int K, int scale, int extra, float slope, int activation, int end,
          int dtype_in, int dtype_out, int device, Address stream) {
    TailParams p = {};
    check_count(inputs, std::size(p.x), "tail", "inputs");
    for (size_t j = 0; j < inputs.size(); ++j)
        p.x[j] = as<void>(inputs[j]);
    p.weight = as<float>(weight);
    p.bias = as<float>(bias);
    p.alpha = as<float>(alpha);
    p.inv_beta = as<float>(inv_beta);
    p.filters = as<float>(filters);
    p.out = as<void>(out);
    p.ranges = as<int32_t>(ranges);
    p.out_stride = out_stride;
    p.branches = static_cast<int>(inputs.size());
    p.T_cap = T_cap;
    p.C = C;
    p.K = K;
    p.scale = scale;
    p.extra = extra;
    p.slope = slope;
    p.out_dtype = static_cast<DType>(dtype_out);
    p.end = static_cast<TailEnd>(end);
    const DeviceGuard guard(device);
    launch_tail(p, B, static_cast<DType>(dtype_in), static_cast<TailActivation>(activation),
                as_stream(stream));
}

// x, out, K, dilation, and per convolution weight, bias, alpha, inv_beta.
using UnitConvTuple = std::tuple<Address, Address, Address, Address>;
using UnitBranchTuple = std::tuple<Address, Address, int, int, std::vector<UnitConvTuple>>;

void residual_unit(const std::vector<UnitBranchTuple>& branches, Address ranges, int B,
                   int64_t T_cap, int C, int scale, int extra, bool snake, float slope,
                   const std::vector<float>& filters, int dtype, int tile, int device,
                   Address stream) {
    constexpr const char* kOp = "residual_unit";
    check_count(branches, kUnitMaxBranches, kOp, "branches");
    UnitParams p = {};
    p.n_convs = static_cast<int>(std::get<4>(branches[0]).size());
    for (size_t j = 0; j < branches.size(); ++j) {
        const auto& [x, out, K, dilation, convs] = branches[j];
        check_count(convs, 2, kOp, "convolutions of a branch");
        require(static_cast<int>(convs.size()) == p.n_convs, kOp,
                "expected equally many convolutions in every branch.");
        UnitBranch& branch = p.branches[j];
        branch.x = as<float>(x);
        branch.out = as<float>(out);
        branch.K = K;
        branch.dilation = dilation;
        for (size_t i = 0; i < convs.size(); ++i) {
            const auto& [weight, bias, alpha, inv_beta] = convs[i];
            branch.weight[i] = as<void>(weight);
            branch.bias[i] = as<float>(bias);
            branch.alpha[i] = as<float>(alpha);
            branch.inv_beta[i] = as<float>(inv_beta);
        }
    }
    if (snake) {
        require(filters.size() == 2 * kUnitFilterTaps, kOp,
                "filters: expected 24 taps, got " + std::to_string(filters.size()) + ".");
        for (int k = 0; k < kUnitFilterTaps; ++k) {
            p.filter.up[k] = filters[k];
            p.filter.down[k] = filters[kUnitFilterTaps + k];
        }
    }
    p.ranges = as<int32_t>(ranges);
    p.T_cap = T_cap;
    p.scale = scale;
    p.extra = extra;
    p.slope = slope;
    const DeviceGuard guard(device);
    launch_residual_unit(p, static_cast<int>(branches.size()), B, C, snake,
                         static_cast<DType>(dtype), tile, as_stream(stream));
}

std::vector<std::array<int, 3>> conv_tiles(int source) {
    std::vector<std::array<int, 3>> tiles;
    ConvTile tile;
    while (conv_tile(static_cast<ConvSource>(source), static_cast<int>(tiles.size()), tile))
        tiles.push_back({tile.rows, tile.columns, tile.threads});
    return tiles;
}

std::vector<std::array<int, 4>> unit_tiles(int C, bool) {
    std::vector<std::array<int, 4>> tiles;
    for (int index = 0; index < kUnitTiles; ++index) {
        const NarrowTile tile = unit_tile(C, index);
        if (tile.warps_m)
            tiles.push_back({tile.warps_m, tile.warps_n, tile.m_tiles, tile.ctas_per_sm});
    }
    return tiles;
}

// The entries of CMAKE_CUDA_ARCHITECTURES this core was built with.
py::tuple architectures() { return py::tuple(py::str(VK_CUDA_ARCHITECTURES).attr("split")(",")); }

void bind_queries(py::module_& m) {
    m.attr("architectures") = architectures();
    m.def("device_properties", &properties, py::arg("device"));
    m.def(
        "conv_tiles", &conv_tiles, py::arg("source"),
        "(rows, columns, threads) of the convolution's tiles, largest first; source: 0 activated, "
        "1 mean of streams, 2 the caller's tensor, 3 activated and summed over branches.");
    m.def(
        "conv_shared_bytes",
        [](int rows, int reach) { return conv_shared_bytes({rows, 0, 0}, reach); }, py::arg("rows"),
        py::arg("reach"));
    m.def("tail_pitch", &tail_pitch, py::arg("C"));
    m.def("unit_tiles", &unit_tiles, py::arg("C"), py::arg("snake"),
          "(warps_m, warps_n, m_tiles, ctas_per_sm) of the residual unit's tiles, largest first.");
    m.def(
        "unit_rows",
        [](int C, bool snake, int tile, int n_convs, int K) {
            return unit_tile_rows(unit_tile(C, tile), snake, n_convs, K);
        },
        py::arg("C"), py::arg("snake"), py::arg("tile"), py::arg("n_convs"), py::arg("K"),
        "Rows of output per CTA.");
    m.def(
        "unit_shared_bytes",
        [](int C, bool snake, int tile, int n_convs, int K, int dilation) {
            return unit_shared_bytes(
                C, unit_shared_rows(unit_tile(C, tile), C, snake, n_convs, K, dilation));
        },
        py::arg("C"), py::arg("snake"), py::arg("tile"), py::arg("n_convs"), py::arg("K"),
        py::arg("dilation"));
}

}  // namespace

void bind(py::module_& parent) {
    py::module_ m = parent.def_submodule("cuda_kernels", "Launches of the CUDA core.");
    bind_queries(m);
    bind_residual_branch(m);
    m.def("conv", &conv, py::kw_only(), py::arg("branches"), py::arg("ranges"), py::arg("B"),
          py::arg("T_cap"), py::arg("C_in"), py::arg("C_out"), py::arg("scale"), py::arg("extra"),
          py::arg("slope"), py::arg("undo"), py::arg("mean"), py::arg("dtype"), py::arg("tile"),
          py::arg("device"), py::arg("stream"));
    m.def("upsample", &upsample, py::kw_only(), py::arg("inputs"), py::arg("mean"),
          py::arg("weight"), py::arg("bias"), py::arg("out_stream"), py::arg("activated"),
          py::arg("ranges"), py::arg("B"), py::arg("T_in_cap"), py::arg("T_out_cap"),
          py::arg("C_in"), py::arg("C_out"), py::arg("taps"), py::arg("stride"), py::arg("padding"),
          py::arg("scale_in"), py::arg("extra_in"), py::arg("scale_out"), py::arg("extra_out"),
          py::arg("slope_in"), py::arg("slope_out"), py::arg("dtype"), py::arg("tile"),
          py::arg("device"), py::arg("stream"));
    m.def("head", &head, py::kw_only(), py::arg("x"), py::arg("x_dtype"), py::arg("stride_b"),
          py::arg("stride_c"), py::arg("stride_t"), py::arg("source"), py::arg("weight"),
          py::arg("bias"), py::arg("cond"), py::arg("cond_stride"), py::arg("ranges"),
          py::arg("out"), py::arg("B"), py::arg("T_cap"), py::arg("C_in"), py::arg("C_out"),
          py::arg("K"), py::arg("dilation"), py::arg("scale"), py::arg("extra"), py::arg("slope"),
          py::arg("dtype"), py::arg("tile"), py::arg("device"), py::arg("stream"));
    m.def("alias_free", &alias_free, py::kw_only(), py::arg("branches"), py::arg("filters"),
          py::arg("ranges"), py::arg("B"), py::arg("T_cap"), py::arg("C"), py::arg("scale"),
          py::arg("extra"), py::arg("dtype_in"), py::arg("dtype_out"), py::arg("tile"),
          py::arg("device"), py::arg("stream"));
    m.def("tail", &tail, py::kw_only(), py::arg("inputs"), py::arg("weight"), py::arg("bias"),
          py::arg("alpha"), py::arg("inv_beta"), py::arg("filters"), py::arg("out"),
          py::arg("ranges"), py::arg("out_stride"), py::arg("B"), py::arg("T_cap"), py::arg("C"),
          py::arg("K"), py::arg("scale"), py::arg("extra"), py::arg("slope"), py::arg("activation"),
          py::arg("end"), py::arg("dtype_in"), py::arg("dtype_out"), py::arg("device"),
          py::arg("stream"));
    m.def("residual_unit", &residual_unit, py::kw_only(), py::arg("branches"), py::arg("ranges"),
          py::arg("B"), py::arg("T_cap"), py::arg("C"), py::arg("scale"), py::arg("extra"),
          py::arg("snake"), py::arg("slope"), py::arg("filters"), py::arg("dtype"), py::arg("tile"),
          py::arg("device"), py::arg("stream"));
}

}  // namespace cuda
}  // namespace vk

// The extension module vocoder_kernels._native: addresses as integers, sizes and strides; no torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/sequence.h"

#ifdef VK_HAVE_CUDA
#include "cuda/bindings.h"
#endif

namespace py = pybind11;

namespace {

using Address = uintptr_t;
// K, dilation, w, bias, alpha, inv_beta.
using LayerTuple = std::tuple<int, int, Address, Address, Address, Address>;
using BranchList = std::vector<std::vector<LayerTuple>>;

const float* floats(Address address) { return reinterpret_cast<const float*>(address); }

vk::StageDescription describe(int C, float slope, const std::vector<BranchList>& branches,
                              Address up, Address down, int algorithm, int chunk_rows) {
    vk::StageDescription stage{C, slope, {}, floats(up), floats(down), algorithm, chunk_rows};
    for (const BranchList& branch : branches) {
        stage.branches.emplace_back();
        for (const auto& unit : branch) {
            stage.branches.back().emplace_back();
            for (const auto& [K, dilation, w, bias, alpha, inv_beta] : unit)
                stage.branches.back().back().layers.push_back(
                    {K, dilation, floats(w), floats(bias), floats(alpha), floats(inv_beta)});
        }
    }
    return stage;
}

void run(vk::Sequence& sequence, Address x, int64_t stride_c, int64_t stride_t, int T, Address cond,
         int cond_size, Address pool, size_t pool_bytes, const std::vector<size_t>& offsets_bytes,
         const std::vector<int64_t>& t_strides, Address out, int64_t out_size, int threads,
         bool timed) {
    if (offsets_bytes.size() != t_strides.size())
        throw std::invalid_argument("run: expected as many offsets_bytes as t_strides, got " +
                                    std::to_string(offsets_bytes.size()) + " and " +
                                    std::to_string(t_strides.size()));
    vk::RunArguments a;
    a.x = floats(x);
    a.stride_c = stride_c;
    a.stride_t = stride_t;
    a.T = T;
    a.cond = floats(cond);
    a.cond_size = cond_size;
    a.pool = reinterpret_cast<char*>(pool);
    a.pool_bytes = pool ? pool_bytes : 0;
    for (size_t i = 0; i < t_strides.size(); ++i)
        a.slots.push_back({offsets_bytes[i], t_strides[i]});
    a.out = reinterpret_cast<float*>(out);
    a.out_size = out_size;
    a.threads = threads;
    a.timed = timed;
    const py::gil_scoped_release release;
    sequence.run(a);
}

void bind_sequence(py::module_& m) {
    using vk::ConvShape;
    using vk::Sequence;
    using NoGil = py::call_guard<py::gil_scoped_release>;
    py::class_<Sequence>(m, "Sequence")
        .def(py::init<const std::string&>(), py::arg("isa"))
        .def(
            "add_head",
            [](Sequence& s, int raw, int act, float slope, int C_in, int C_out, int K, int dilation,
               Address w, Address bias) {
                s.add_head(raw, act, slope, {C_in, C_out, K, dilation}, floats(w), floats(bias));
            },
            NoGil(), py::kw_only(), py::arg("raw"), py::arg("act"), py::arg("slope"),
            py::arg("C_in"), py::arg("C_out"), py::arg("K"), py::arg("dilation"), py::arg("w"),
            py::arg("bias"))
        .def(
            "add_upsample",
            [](Sequence& s, int x, int raw, int act, float slope, int C_in, int C_out, int K,
               int stride, int padding, Address w, Address bias) {
                s.add_upsample(x, raw, act, slope, C_in, C_out, K, stride, padding, floats(w),
                               floats(bias));
            },
            NoGil(), py::kw_only(), py::arg("x"), py::arg("raw"), py::arg("act"), py::arg("slope"),
            py::arg("C_in"), py::arg("C_out"), py::arg("K"), py::arg("stride"), py::arg("padding"),
            py::arg("w"), py::arg("bias"))
        .def(
            "add_conv",
            [](Sequence& s, int x, int residual, int addend, float scale, int raw, int act,
               float slope, int C_in, int C_out, int K, int dilation, Address w, Address bias,
               int algorithm) {
                s.add_conv(x, residual, addend, scale, raw, act, slope, {C_in, C_out, K, dilation},
                           floats(w), floats(bias), algorithm);
            },
            NoGil(), py::kw_only(), py::arg("x"), py::arg("residual"), py::arg("addend"),
            py::arg("scale"), py::arg("raw"), py::arg("act"), py::arg("slope"), py::arg("C_in"),
            py::arg("C_out"), py::arg("K"), py::arg("dilation"), py::arg("w"), py::arg("bias"),
            py::arg("algorithm"))
        .def(
            "add_snake",
            [](Sequence& s, int x, int y, int C, Address alpha, Address inv_beta, Address up,
               Address down) {
                s.add_snake(x, y, C, floats(alpha), floats(inv_beta), floats(up), floats(down));
            },
            NoGil(), py::kw_only(), py::arg("x"), py::arg("y"), py::arg("C"), py::arg("alpha"),
            py::arg("inv_beta"), py::arg("up"), py::arg("down"))
        .def(
            "add_stage",
            [](Sequence& s, int x, int x_act, int raw, int act, float next_slope, int C,
               float slope, const std::vector<BranchList>& branches, Address up, Address down,
               int algorithm, int chunk_rows) {
                s.add_stage(x, x_act, raw, act, next_slope,
                            describe(C, slope, branches, up, down, algorithm, chunk_rows));
            },
            NoGil(), py::kw_only(), py::arg("x"), py::arg("x_act"), py::arg("raw"), py::arg("act"),
            py::arg("next_slope"), py::arg("C"), py::arg("slope"), py::arg("branches"),
            py::arg("up"), py::arg("down"), py::arg("algorithm"), py::arg("chunk_rows"))
        .def(
            "add_tail",
            [](Sequence& s, int x, int C, int K, Address w, float bias, bool clamp) {
                s.add_tail(x, C, K, floats(w), bias, clamp);
            },
            NoGil(), py::kw_only(), py::arg("x"), py::arg("C"), py::arg("K"), py::arg("w"),
            py::arg("bias"), py::arg("clamp"))
        .def("run", &run, py::kw_only(), py::arg("x"), py::arg("stride_c"), py::arg("stride_t"),
             py::arg("T"), py::arg("cond"), py::arg("cond_size"), py::arg("pool"),
             py::arg("pool_bytes"), py::arg("offsets_bytes"), py::arg("t_strides"), py::arg("out"),
             py::arg("out_size"), py::arg("threads"), py::arg("timed"))
        .def("prepare", &Sequence::prepare, NoGil(), py::arg("T"), py::arg("threads"))
        .def("out_length", &Sequence::out_length, py::arg("T"))
        .def("steps", &Sequence::names)
        .def("timings_us", &Sequence::timings_us)
        .def("packed_bytes", &Sequence::packed_bytes)
        .def("workspace_bytes", &Sequence::workspace_bytes);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    m.doc() =
        "Fused vocoder kernels; addresses are integers, sizes in elements unless named bytes.";
    m.def("isas", &vk::available_isas, "Instruction sets of this processor and build, best first.");
    m.def(
        "width", [](const std::string& isa) { return vk::kernels(isa).width; }, py::arg("isa"),
        "Channels per block of the layout of an instruction set.");
    bind_sequence(m);
#ifdef VK_HAVE_CUDA
    m.attr("cuda") = true;
    vk::cuda::bind(m);
#else
    m.attr("cuda") = false;
#endif
}

// Python interface of the CUDA core.
#pragma once

#include <pybind11/pybind11.h>

namespace vk {
namespace cuda {

// Adds the submodule `cuda_kernels`: one function per launch, and queries. Addresses and streams
// are integers, sizes are in elements unless named bytes, dtypes are codes of DType.
void bind(pybind11::module_& m);

// Adds to it the launch of whole residual branches and the queries that go with it.
void bind_residual_branch(pybind11::module_& m);

}  // namespace cuda
}  // namespace vk

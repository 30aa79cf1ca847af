# vocoder_kernels_cuda_architectures(OUT): machine code for every listed compute capability the
# toolkit knows, and PTX of the newest, which later GPUs translate.
function(vocoder_kernels_cuda_architectures out)
  set(wanted ${VOCODER_KERNELS_CUDA_ARCHS})
  if(NOT wanted)
    set(wanted 75 80 86 89 90 100 120)
  endif()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE listed
                  RESULT_VARIABLE failed ERROR_QUIET)
  set(known "")
  foreach(arch IN LISTS wanted)
    string(REPLACE "." "" arch "${arch}")
    if(failed OR listed MATCHES "sm_${arch}([^0-9]|$)")
      list(APPEND known ${arch})
    else()
      message(STATUS "vocoder_kernels: nvcc does not know compute capability ${arch}; left out")
    endif()
  endforeach()
  if(NOT known)
    message(FATAL_ERROR "vocoder_kernels: nvcc knows none of the compute capabilities ${wanted}; "
                        "set VOCODER_KERNELS_CUDA_ARCHS to some of its own or "
                        "VOCODER_KERNELS_CUDA=off")
  endif()
  list(GET known -1 newest)
  list(TRANSFORM known APPEND -real)
  set(${out} ${known} ${newest}-virtual PARENT_SCOPE)
endfunction()

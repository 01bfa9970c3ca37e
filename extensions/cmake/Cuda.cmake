# Sets OPSERVE_HAS_CUDA and, if it is true, enables the CUDA language. Compiling for CUDA takes a compiler and headers,
# but neither a GPU nor a driver.

set(OPSERVE_CUDA "AUTO" CACHE STRING "Build the CUDA libraries: AUTO (where a CUDA compiler works), ON, OFF")
set_property(CACHE OPSERVE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(OPSERVE_CUDA_ARCHS "" CACHE STRING
  "CUDA architectures, as CMAKE_CUDA_ARCHITECTURES takes them; empty for those that the compiler and PyTorch support")

# A program for each generation since Turing. The driver compiles the intermediate code of 90 for newer devices without
# their own program, including the data-centre Blackwells (100, 103), which cannot run that of 120.
set(OPSERVE_DEFAULT_CUDA_ARCHS 75-real 80-real 86-real 90)
set(OPSERVE_DEFAULT_CUDA_ARCHS_SINCE_12_8 75-real 80-real 86-real 90 120-real)

# Sets OPSERVE_NVCC_PATH and OPSERVE_NVCC_VERSION, or otherwise `reason`.
function(opserve_find_cuda_compiler reason)
  find_program(OPSERVE_NVCC nvcc
    PATHS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin" /usr/local/cuda/bin
    DOC "The CUDA compiler; empty to do without")
  if(CMAKE_CUDA_COMPILER)
    set(OPSERVE_NVCC "${CMAKE_CUDA_COMPILER}")
  elseif(NOT "$ENV{CUDACXX}" STREQUAL "")
    set(OPSERVE_NVCC "$ENV{CUDACXX}")
  elseif(NOT OPSERVE_NVCC)
    set(${reason} "no CUDA compiler was found. Install the CUDA toolkit, or from PyPI 'pip install nvidia-cuda-nvcc \
nvidia-cuda-runtime nvidia-cuda-cccl', and put the folder of nvcc on PATH (or name it: -DCMAKE_CUDA_COMPILER=.../nvcc)"
      PARENT_SCOPE)
    return()
  endif()
  set(probe "${CMAKE_BINARY_DIR}/CMakeFiles/opserve_cuda_probe")
  file(WRITE "${probe}.cu"
    "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n#include <cuda_runtime.h>\n__global__ void kernel() {}\n")
  execute_process(
    COMMAND "${OPSERVE_NVCC}" -std=c++20 -ccbin "${CMAKE_CXX_COMPILER}" -c "${probe}.cu" -o "${probe}.o"
    OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
  string(STRIP "${output}" output)
  if(result EQUAL 0)
    execute_process(COMMAND "${OPSERVE_NVCC}" --version OUTPUT_VARIABLE output)
    string(REGEX REPLACE ".*release ([0-9]+\\.[0-9]+).*" "\\1" version "${output}")
    set(OPSERVE_NVCC_VERSION "${version}" PARENT_SCOPE)
    set(OPSERVE_NVCC_PATH "${OPSERVE_NVCC}" PARENT_SCOPE)
  elseif(output MATCHES "(cuda_runtime|cuda_fp16|cuda_bf16)\\.h: No such file")
    set(${reason} "${OPSERVE_NVCC} has no ${CMAKE_MATCH_1}.h: the compiler is there, the headers of the CUDA runtime \
are not. Install the CUDA toolkit's cudart development package, or 'pip install nvidia-cuda-runtime' for a \
compiler from PyPI" PARENT_SCOPE)
  else()
    set(${reason} "${OPSERVE_NVCC} does not compile a kernel with ${CMAKE_CXX_COMPILER}: ${output}" PARENT_SCOPE)
  endif()
endfunction()

set(OPSERVE_HAS_CUDA FALSE)
string(TOUPPER "${OPSERVE_CUDA}" OPSERVE_CUDA_WANTED)
if(NOT OPSERVE_CUDA_WANTED MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "OPSERVE_CUDA must be AUTO, ON or OFF, got ${OPSERVE_CUDA}.")
endif()
if(NOT OPSERVE_CUDA_WANTED STREQUAL "OFF")
  set(OPSERVE_NO_CUDA "")
  opserve_find_cuda_compiler(OPSERVE_NO_CUDA)
  if(OPSERVE_NO_CUDA STREQUAL "")
    set(OPSERVE_HAS_CUDA TRUE)
  elseif(OPSERVE_CUDA_WANTED STREQUAL "ON")
    message(FATAL_ERROR "The CUDA libraries cannot be built: ${OPSERVE_NO_CUDA}. "
      "Without them, use OPSERVE_CUDA=OFF (make ext CUDA=off).")
  else()
    message(STATUS "Without the CUDA libraries: ${OPSERVE_NO_CUDA}")
  endif()
endif()

if(OPSERVE_HAS_CUDA)
  if(OPSERVE_CUDA_ARCHS)
    string(REGEX REPLACE "[, ]+" ";" CMAKE_CUDA_ARCHITECTURES "${OPSERVE_CUDA_ARCHS}")
  elseif(OPSERVE_NVCC_VERSION VERSION_LESS 12.8)
    set(CMAKE_CUDA_ARCHITECTURES ${OPSERVE_DEFAULT_CUDA_ARCHS})
  else()
    set(CMAKE_CUDA_ARCHITECTURES ${OPSERVE_DEFAULT_CUDA_ARCHS_SINCE_12_8})
  endif()
  if(NOT CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
  endif()
  set(CMAKE_CUDA_COMPILER "${OPSERVE_NVCC_PATH}")
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  # Linked into the library: PyTorch and ONNX Runtime each bring their own version of the CUDA runtime.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  message(STATUS "CUDA ${OPSERVE_NVCC_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

  # Built only if something links it.
  opserve_sources(sources cuda)
  add_library(opserve_cuda_kernels STATIC EXCLUDE_FROM_ALL ${sources})
  if(OPSERVE_NVCC_VERSION VERSION_GREATER_EQUAL 13.0)
    # A third of the size; decompressed once, when it is loaded.
    target_compile_options(opserve_cuda_kernels PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>")
  endif()
  target_link_libraries(opserve_cuda_kernels PUBLIC opserve_kernels)

  # A library also takes a list of its exports: the CUDA runtime and the standard library add symbols.
  set(OPSERVE_CUDA_LINK_OPTIONS
    # The remaining symbols would name nvcc's temporary files, whose names differ every time.
    -Wl,--strip-all)
endif()

# Defines opserve::torch_stable: the headers and the library that the stable ABI of PyTorch needs. PyTorch's own CMake
# package is not used: on a CUDA build of PyTorch it requires a CUDA toolkit, which these targets do not need.
#
# Takes PyTorch from Torch_DIR (…/torch/share/cmake/Torch) or otherwise from the interpreter Python_EXECUTABLE.

if(Torch_DIR)
  get_filename_component(OPSERVE_TORCH_ROOT "${Torch_DIR}/../../.." ABSOLUTE)
else()
  if(NOT Python_EXECUTABLE)
    message(FATAL_ERROR "No Python given to take PyTorch from. Add -DPython_EXECUTABLE=.venv/bin/python "
      "(or -DTorch_DIR=.../torch/share/cmake/Torch).")
  endif()
  opserve_find_python_package(OPSERVE_TORCH_ROOT torch)
  if(OPSERVE_TORCH_ROOT STREQUAL "")
    message(FATAL_ERROR "${Python_EXECUTABLE} has no PyTorch. Install it with "
      "'${Python_EXECUTABLE} -m pip install torch', or name another interpreter.")
  endif()
endif()

set(OPSERVE_TORCH_VERSION_HEADER "${OPSERVE_TORCH_ROOT}/include/torch/headeronly/version.h")
set(OPSERVE_TORCH_VERSION "older than ${OPSERVE_TORCH_TARGET_VERSION}")
if(EXISTS "${OPSERVE_TORCH_VERSION_HEADER}")
  file(STRINGS "${OPSERVE_TORCH_VERSION_HEADER}" OPSERVE_VERSION_LINES REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" OPSERVE_TORCH_VERSION "${OPSERVE_VERSION_LINES}")
endif()
if(NOT OPSERVE_TORCH_VERSION VERSION_GREATER_EQUAL OPSERVE_TORCH_TARGET_VERSION)
  message(FATAL_ERROR "PyTorch in ${OPSERVE_TORCH_ROOT} is ${OPSERVE_TORCH_VERSION}, "
    "but ${OPSERVE_TORCH_TARGET_VERSION} or newer is needed: pip install 'torch>=${OPSERVE_TORCH_TARGET_VERSION}'.")
endif()
message(STATUS "PyTorch ${OPSERVE_TORCH_VERSION} in ${OPSERVE_TORCH_ROOT}, stable ABI of ${OPSERVE_TORCH_TARGET_VERSION}")

# 2.10 is 0x020a000000000000.
string(REPLACE "." ";" OPSERVE_VERSION_PARTS "${OPSERVE_TORCH_TARGET_VERSION}")
list(GET OPSERVE_VERSION_PARTS 0 OPSERVE_MAJOR)
list(GET OPSERVE_VERSION_PARTS 1 OPSERVE_MINOR)
math(EXPR OPSERVE_TARGET "${OPSERVE_MAJOR} * 256 + ${OPSERVE_MINOR}" OUTPUT_FORMAT HEXADECIMAL)
string(REPLACE "0x" "" OPSERVE_TARGET "${OPSERVE_TARGET}")

add_library(opserve_torch_stable INTERFACE)
add_library(opserve::torch_stable ALIAS opserve_torch_stable)
target_include_directories(opserve_torch_stable SYSTEM INTERFACE "${OPSERVE_TORCH_ROOT}/include")
target_compile_definitions(opserve_torch_stable INTERFACE "TORCH_TARGET_VERSION=0x0${OPSERVE_TARGET}000000000000ULL")
# GCC names a system header by its path without symbolic links if that is shorter: neither form may be in the file.
get_filename_component(OPSERVE_TORCH_REAL_ROOT "${OPSERVE_TORCH_ROOT}" REALPATH)
target_compile_options(opserve_torch_stable INTERFACE
  "-ffile-prefix-map=${OPSERVE_TORCH_REAL_ROOT}=torch" "-ffile-prefix-map=${OPSERVE_TORCH_ROOT}=torch")
target_link_libraries(opserve_torch_stable INTERFACE "${OPSERVE_TORCH_ROOT}/lib/libtorch_cpu.so")

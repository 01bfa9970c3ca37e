# Defines opserve::onnxruntime_headers, or leaves it undefined and says why.
#
# Takes the headers from ONNXRUNTIME_INCLUDE_DIR (variable or environment), or else from wherever
# onnxruntime_headers.py finds them. OPSERVE_BUILD_ONNXRUNTIME=ON makes a failure fatal; a folder that was named
# and does not serve is an error in any case.

if(NOT ONNXRUNTIME_INCLUDE_DIR)
  set(ONNXRUNTIME_INCLUDE_DIR "$ENV{ONNXRUNTIME_INCLUDE_DIR}")
endif()
# Any interpreter will do: the script needs nothing but the standard library.
set(OPSERVE_SCRIPT_PYTHON "${OPSERVE_PYTHON}")
if(NOT OPSERVE_SCRIPT_PYTHON)
  set(OPSERVE_SCRIPT_PYTHON "${Python_EXECUTABLE}")
endif()
if(NOT OPSERVE_SCRIPT_PYTHON)
  find_program(OPSERVE_PYTHON3 python3)
  set(OPSERVE_SCRIPT_PYTHON "${OPSERVE_PYTHON3}")
endif()

set(OPSERVE_ORT_INCLUDE "")
if(OPSERVE_SCRIPT_PYTHON)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -E env "ONNXRUNTIME_INCLUDE_DIR=${ONNXRUNTIME_INCLUDE_DIR}"
      "${OPSERVE_SCRIPT_PYTHON}" "${CMAKE_CURRENT_LIST_DIR}/onnxruntime_headers.py"
    OUTPUT_VARIABLE OPSERVE_ORT_INCLUDE
    ERROR_VARIABLE OPSERVE_ORT_REASON
    RESULT_VARIABLE OPSERVE_ORT_RESULT
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_STRIP_TRAILING_WHITESPACE)
  if(NOT OPSERVE_ORT_RESULT EQUAL 0)
    set(OPSERVE_ORT_INCLUDE "")
  endif()
else()
  set(OPSERVE_ORT_REASON "No ONNX Runtime headers: there is no python3 to look for them with. Set Python_EXECUTABLE.")
endif()

if(OPSERVE_ORT_INCLUDE)
  file(STRINGS "${OPSERVE_ORT_INCLUDE}/onnxruntime_c_api.h" OPSERVE_ORT_VERSION REGEX "^#define ORT_API_VERSION [0-9]+")
  string(REGEX REPLACE "[^0-9]*([0-9]+).*" "\\1" OPSERVE_ORT_VERSION "${OPSERVE_ORT_VERSION}")
  message(STATUS "ONNX Runtime 1.${OPSERVE_ORT_VERSION} headers in ${OPSERVE_ORT_INCLUDE}")
  add_library(opserve_onnxruntime_headers INTERFACE)
  add_library(opserve::onnxruntime_headers ALIAS opserve_onnxruntime_headers)
  target_include_directories(opserve_onnxruntime_headers SYSTEM INTERFACE "${OPSERVE_ORT_INCLUDE}")
  get_filename_component(OPSERVE_ORT_REAL_INCLUDE "${OPSERVE_ORT_INCLUDE}" REALPATH)
  target_compile_options(opserve_onnxruntime_headers INTERFACE
    "-ffile-prefix-map=${OPSERVE_ORT_REAL_INCLUDE}=onnxruntime" "-ffile-prefix-map=${OPSERVE_ORT_INCLUDE}=onnxruntime")
elseif(OPSERVE_BUILD_ONNXRUNTIME STREQUAL "ON" OR ONNXRUNTIME_INCLUDE_DIR)
  message(FATAL_ERROR "${OPSERVE_ORT_REASON}")
else()
  message(WARNING "libopserve_onnxruntime.so is left out; models saved as ONNX cannot be served. ${OPSERVE_ORT_REASON}")
endif()

# The fuzzer, and mutants of the kernels that it must catch: each is the fuzzer with one source changed, without a
# check. The change is made to a copy, so that the sources contain nothing for it.

set(OPSERVE_KERNELS_DIR "${CMAKE_CURRENT_SOURCE_DIR}/../kernels")

add_library(fuzz_kernels_main OBJECT fuzz_backward.cpp fuzz_gcn_norm.cpp fuzz_kernels.cpp)
target_link_libraries(fuzz_kernels_main PRIVATE opserve_options)
target_include_directories(fuzz_kernels_main PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/../native")
opserve_sources(sources npy)
add_library(fuzz_npy STATIC ${sources})
target_link_libraries(fuzz_npy PRIVATE opserve_options)
add_executable(fuzz_kernels $<TARGET_OBJECTS:fuzz_kernels_main>)
target_link_libraries(fuzz_kernels PRIVATE opserve_kernels fuzz_npy)
add_test(NAME fuzz COMMAND fuzz_kernels)

# `source` is compiled with `from` replaced by `to` in `file`, which is the source or a header that it includes; headers
# in between are named after `to`. The program takes everything else from the library.
function(opserve_mutant name source file from to)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}")
  get_filename_component(place "${OPSERVE_KERNELS_DIR}/${source}" DIRECTORY)
  foreach(copied ${source} ${file} ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${OPSERVE_KERNELS_DIR}/${copied}")
    get_filename_component(basename "${copied}" NAME)
    file(READ "${OPSERVE_KERNELS_DIR}/${copied}" content)
    if(copied STREQUAL file)
      string(FIND "${content}" "${from}" found)
      if(found EQUAL -1)
        message(FATAL_ERROR "Mutant ${name}: kernels/${file} has no '${from}'. Name the text of that check as it is now.")
      endif()
      string(REPLACE "${from}" "${to}" content "${content}")
    endif()
    # Not touched if nothing has changed, so that it is not compiled again.
    file(CONFIGURE OUTPUT "${folder}/${basename}" CONTENT "${content}" @ONLY)
  endforeach()
  get_filename_component(basename "${source}" NAME)
  add_executable(fuzz_mutant_${name} $<TARGET_OBJECTS:fuzz_kernels_main> "${folder}/${basename}")
  # Variables that only the missing check used are expected.
  target_compile_options(fuzz_mutant_${name} PRIVATE -w)
  target_include_directories(fuzz_mutant_${name} PRIVATE "${place}")
  target_link_libraries(fuzz_mutant_${name} PRIVATE opserve_kernels fuzz_npy)
  # A mutant is caught if the output says in which case.
  add_test(NAME fuzz_mutant_${name} COMMAND fuzz_mutant_${name} --cases 10000 --here)
  set_tests_properties(fuzz_mutant_${name} PROPERTIES
    PASS_REGULAR_EXPRESSION "in case [0-9]+ of seed"
    ENVIRONMENT OPSERVE_CPU_CAPABILITY=default)
endfunction()

opserve_mutant(skip_rowptr_check cpu/graph_conv_csr_cpu.cpp cpu/graph_conv_csr_cpu.cpp
  "if (!rowptr_valid(rowptr, n, nnz)) return fault(kOp, rowptr, col, n, nnz);" "")
opserve_mutant(skip_weight_rows graph_conv_check.cpp graph_conv_check.cpp
  "OPSERVE_RETURN_IF_ERROR(check::size(op, \"weight\", weight, 0, \"f\", f));" "")
opserve_mutant(skip_y_sizes scaled_add_check.cpp scaled_add_check.cpp
  "if (y.sizes[axis] != x.sizes[axis])" "if (false)")
opserve_mutant(skip_grad_rows check.cpp check.cpp
  "OPSERVE_RETURN_IF_ERROR(size(op, \"grad\", grad, 0, \"n\", n));" "")
opserve_mutant(skip_grad_sizes warp_perspective_check.cpp warp_perspective_check.cpp
  "if (grad.sizes[axis] != expected)" "if (false)")
opserve_mutant(skip_graph_check cpu/gcn_norm_cpu.cpp cpu/gcn_norm_cpu.cpp
  "OPSERVE_RETURN_IF_ERROR(check_values(kOp, graph, p.sizes.nnz));" "")
opserve_mutant(skip_index_range gcn_norm_check.cpp gcn_norm_check.cpp
  "rowptr.dtype == DType::kInt32 && out_nnz > int32_max" "false")
# Only in the baseline kernels.
opserve_mutant(skip_col_check cpu/isa_default.cpp cpu/graph_conv_csr_kernel.h
  "signs |= (last - column) | column;" "" cpu/isa.h)
opserve_mutant(col_off_by_one cpu/isa_default.cpp cpu/graph_conv_csr_kernel.h
  "min_of(limit - 1, largest)" "min_of(limit, largest)" cpu/isa.h)
opserve_mutant(right_border cpu/isa_default.cpp cpu/warp_perspective_kernel.h
  "has_right = column >= -1 && column < w - 1" "has_right = column >= -1 && column < w" cpu/isa.h)
opserve_mutant(gradient_right_border cpu/isa_default.cpp cpu/warp_perspective_backward_kernel.h
  "has_right = column >= -1 && column < w - 1" "has_right = column >= -1 && column < w" cpu/isa.h)

# The fuzzer of the native worker's codecs, and mutants of those.
if(NOT TARGET opserve_native)
  return()
endif()
add_library(fuzz_native_main OBJECT fuzz_native.cpp fuzz_native_bodies.cpp)
target_link_libraries(fuzz_native_main PRIVATE opserve_native)
add_executable(fuzz_native $<TARGET_OBJECTS:fuzz_native_main>)
target_link_libraries(fuzz_native PRIVATE opserve_native)
add_test(NAME fuzz_native COMMAND fuzz_native)

set(OPSERVE_WORKER_DIR "${CMAKE_CURRENT_SOURCE_DIR}/../native")
# `source`, with `from` replaced by `to`, takes the place of the library's.
function(opserve_native_mutant name source from to)
  set(original "${OPSERVE_WORKER_DIR}/${source}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${original}")
  get_filename_component(place "${original}" DIRECTORY)
  get_filename_component(basename "${original}" NAME)
  set(mutant "${CMAKE_CURRENT_BINARY_DIR}/mutants/native_${name}/${basename}")
  file(READ "${original}" content)
  string(FIND "${content}" "${from}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "Mutant ${name}: native/${source} has no '${from}'. Name the text of that check as it is now.")
  endif()
  string(REPLACE "${from}" "${to}" content "${content}")
  file(CONFIGURE OUTPUT "${mutant}" CONTENT "${content}" @ONLY)
  add_executable(fuzz_native_mutant_${name} $<TARGET_OBJECTS:fuzz_native_main> "${mutant}")
  target_compile_options(fuzz_native_mutant_${name} PRIVATE -w)
  target_include_directories(fuzz_native_mutant_${name} BEFORE PRIVATE "${place}")
  target_link_libraries(fuzz_native_mutant_${name} PRIVATE opserve_native)
  add_test(NAME fuzz_native_mutant_${name} COMMAND fuzz_native_mutant_${name} --cases 60000)
  set_tests_properties(fuzz_native_mutant_${name} PROPERTIES PASS_REGULAR_EXPRESSION "in case [0-9]+ of seed")
endfunction()

opserve_native_mutant(npy_size codecs/npy.cpp "if (count_bytes(shape, each) != data.size())" "if (false)")
opserve_native_mutant(npy_bool codecs/npy.cpp "dtype == DType::kBool && is_neither_0_nor_1(data)" "false")
opserve_native_mutant(npz_member_size codecs/npz.cpp "bytes.size() - start < member.packed_bytes" "false")
opserve_native_mutant(binary_data_size codecs/oip.cpp "static_cast<uint64_t>(*bytes) > binary.size()" "false")
opserve_native_mutant(json_length codecs/oip.cpp "!is_number || size > content.size()" "!is_number")
opserve_native_mutant(png_chunk codecs/png.cpp "std::min(length, left)" "length")
opserve_native_mutant(alignment signature/signature.cpp "} else if (!is_aligned(converted)) {" "} else if (false) {")
opserve_native_mutant(minimum signature/signature.cpp "all_finite_from(array, *spec.minimum)" "true")
opserve_native_mutant(ragged_rows codecs/json_convert.cpp
  "if (!tape.is_array(array) || tape.count(array) != size) return false;" "if (!tape.is_array(array)) return false;")

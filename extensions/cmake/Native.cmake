# Sets OPSERVE_HAS_NATIVE and, if it is true, defines opserve::native_libraries: the libraries of others that the native
# worker uses. Otherwise the file no-worker.txt of the build folder has the reason, in one line.
#
# ISA-L, libjpeg-turbo and OpenSSL's libcrypto are the system's. simdjson is compiled here, from the two source files in the
# package pysimdjson of Python_EXECUTABLE: the very version with which the Python worker parses.

set(OPSERVE_SIMDJSON_DIR "" CACHE PATH "Folder with simdjson.h and simdjson.cpp; empty to take those of pysimdjson")

# Sets `reason` to what is missing and how to get it, or to "".
function(opserve_find_native_libraries reason)
  find_package(JPEG QUIET)
  find_package(OpenSSL QUIET COMPONENTS Crypto)
  find_path(OPSERVE_ISAL_INCLUDE_DIR isa-l.h DOC "Contains isa-l.h")
  find_library(OPSERVE_ISAL_LIBRARY isal DOC "ISA-L")
  set(missing "")
  set(packages "")
  if(NOT OPSERVE_ISAL_INCLUDE_DIR OR NOT OPSERVE_ISAL_LIBRARY)
    list(APPEND missing "ISA-L")
    list(APPEND packages libisal-dev)
  endif()
  if(NOT JPEG_FOUND)
    list(APPEND missing "libjpeg-turbo")
    list(APPEND packages libjpeg-dev)
  endif()
  if(NOT OPENSSL_FOUND)
    list(APPEND missing "OpenSSL")
    list(APPEND packages libssl-dev)
  endif()
  set(${reason} "" PARENT_SCOPE)
  if(missing)
    list(JOIN missing ", " missing)
    list(JOIN packages " " packages)
    set(${reason} "no headers of ${missing} (Debian, Ubuntu: apt install ${packages})" PARENT_SCOPE)
    return()
  endif()

  set(simdjson "${OPSERVE_SIMDJSON_DIR}")
  if(simdjson STREQUAL "")
    opserve_find_python_package(simdjson simdjson)
  endif()
  if(NOT EXISTS "${simdjson}/simdjson.cpp" OR NOT EXISTS "${simdjson}/simdjson.h")
    set(${reason} "no sources of simdjson in this environment's pysimdjson (pip install --force-reinstall pysimdjson)"
      PARENT_SCOPE)
    return()
  endif()

  # Its warnings are not ours. It chooses its instructions when it runs.
  add_library(opserve_simdjson STATIC EXCLUDE_FROM_ALL "${simdjson}/simdjson.cpp")
  target_include_directories(opserve_simdjson SYSTEM PUBLIC "${simdjson}")
  target_compile_options(opserve_simdjson PRIVATE -w -O3 -fvisibility=hidden)
  if(OPSERVE_SANITIZE)
    target_compile_options(opserve_simdjson PRIVATE -fsanitize=address -fno-omit-frame-pointer -g1)
  endif()

  find_package(Threads REQUIRED)
  add_library(opserve_native_libraries INTERFACE)
  add_library(opserve::native_libraries ALIAS opserve_native_libraries)
  target_include_directories(opserve_native_libraries SYSTEM INTERFACE
    "${OPSERVE_ISAL_INCLUDE_DIR}" ${JPEG_INCLUDE_DIRS} "${OPENSSL_INCLUDE_DIR}")
  target_link_libraries(opserve_native_libraries INTERFACE
    opserve_simdjson "${OPSERVE_ISAL_LIBRARY}" ${JPEG_LIBRARIES} "${OPENSSL_CRYPTO_LIBRARY}" Threads::Threads
    ${CMAKE_DL_LIBS})
endfunction()

set(OPSERVE_HAS_NATIVE FALSE)
string(TOUPPER "${OPSERVE_BUILD_WORKER}" OPSERVE_WORKER_WANTED)
if(NOT OPSERVE_WORKER_WANTED MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "OPSERVE_BUILD_WORKER must be AUTO, ON or OFF, got ${OPSERVE_BUILD_WORKER}.")
endif()
file(REMOVE "${CMAKE_BINARY_DIR}/no-worker.txt")
if(NOT OPSERVE_WORKER_WANTED STREQUAL "OFF")
  opserve_find_native_libraries(OPSERVE_NO_WORKER)
  if(OPSERVE_NO_WORKER STREQUAL "")
    set(OPSERVE_HAS_NATIVE TRUE)
  elseif(OPSERVE_WORKER_WANTED STREQUAL "ON")
    message(FATAL_ERROR "The native worker cannot be built: ${OPSERVE_NO_WORKER}.")
  else()
    file(WRITE "${CMAKE_BINARY_DIR}/no-worker.txt" "${OPSERVE_NO_WORKER}\n")
    message(STATUS "Without the native worker: ${OPSERVE_NO_WORKER}")
  endif()
endif()

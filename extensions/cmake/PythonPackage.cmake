# opserve_find_python_package(VARIABLE PACKAGE) sets VARIABLE to the folder of a package of the interpreter
# Python_EXECUTABLE, or to "" if it has no such package or none is given. Nothing is imported: PyTorch takes seconds.

function(opserve_find_python_package variable package)
  set(${variable} "" PARENT_SCOPE)
  if(NOT Python_EXECUTABLE)
    return()
  endif()
  get_filename_component(python "${Python_EXECUTABLE}" ABSOLUTE BASE_DIR "${CMAKE_BINARY_DIR}")
  if(NOT EXISTS "${python}")
    get_filename_component(python "${Python_EXECUTABLE}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}/..")
  endif()
  if(NOT EXISTS "${python}")
    message(FATAL_ERROR "Python_EXECUTABLE=${Python_EXECUTABLE} does not exist. "
      "Make the environment first (make ext does), or name another interpreter.")
  endif()
  execute_process(
    COMMAND "${python}" -c
      "import importlib.util as u, os, sys; s = u.find_spec(sys.argv[1]); print(os.path.dirname(s.origin) if s else '', end='')"
      ${package}
    OUTPUT_VARIABLE folder
    ERROR_VARIABLE error
    RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${Python_EXECUTABLE} does not run. ${error}")
  endif()
  set(${variable} "${folder}" PARENT_SCOPE)
endfunction()

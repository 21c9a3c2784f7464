# oneDNN as oneDNN::oneDNN, built on OpenMP. Debian's dnnl-config.cmake is not asked: it stops the configuration of
# everybody who has not installed OpenCL's headers too.
find_path(oneDNN_INCLUDE_DIR dnnl.hpp HINTS ${oneDNN_ROOT} ENV oneDNN_ROOT PATH_SUFFIXES include)
find_library(oneDNN_LIBRARY dnnl HINTS ${oneDNN_ROOT} ENV oneDNN_ROOT PATH_SUFFIXES lib lib64)
if(oneDNN_INCLUDE_DIR)
  file(STRINGS ${oneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h oneDNN_lines
       REGEX "#define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9;]" "" oneDNN_VERSION "${oneDNN_lines}")
  string(REPLACE ";" "." oneDNN_VERSION "${oneDNN_VERSION}")
  # a build on other threads has no function that gives it one thread
  file(STRINGS ${oneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h oneDNN_OPENMP
       REGEX "#define DNNL_CPU_THREADING_RUNTIME DNNL_RUNTIME_OMP")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  oneDNN REQUIRED_VARS oneDNN_LIBRARY oneDNN_INCLUDE_DIR oneDNN_OPENMP VERSION_VAR oneDNN_VERSION HANDLE_VERSION_RANGE
  REASON_FAILURE_MESSAGE "install oneDNN 2 on OpenMP (Debian 12: libdnnl-dev) or point oneDNN_ROOT at it")
if(oneDNN_FOUND AND NOT TARGET oneDNN::oneDNN)
  add_library(oneDNN::oneDNN UNKNOWN IMPORTED)
  set_target_properties(oneDNN::oneDNN PROPERTIES IMPORTED_LOCATION ${oneDNN_LIBRARY}
                                                  INTERFACE_INCLUDE_DIRECTORIES ${oneDNN_INCLUDE_DIR}
                                                  INTERFACE_LINK_LIBRARIES gomp)
endif()
mark_as_advanced(oneDNN_INCLUDE_DIR oneDNN_LIBRARY)

# bf::cuda: the kernels of NVIDIA GPUs. It compiles and links on a machine without a GPU.
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(nvcc nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT nvcc)
    message(FATAL_ERROR "BF_CUDA: nvcc is not found; install the CUDA toolkit 13, or set CMAKE_CUDA_COMPILER to nvcc, "
                        "or configure with -DBF_CUDA=OFF")
  endif()
  set(CMAKE_CUDA_COMPILER ${nvcc} CACHE FILEPATH "CUDA compiler")
endif()
# Before the language, which would set a default of its own. Each entry brings machine code and an intermediate form that
# newer GPUs compile for themselves at the first start.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90 100 120 CACHE STRING "GPU architectures to compile for")
endif()
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)  # an installed bf finds the libraries it was linked with
endif()
# nvcc's host compiler is the one of the other sources, so that both agree on the standard library.
if(NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()
if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.8 REQUIRED)
find_package(cuDNN 9.8 REQUIRED)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cpp ${PROJECT_SOURCE_DIR}/cuda/*.cu)
add_library(bf_cuda STATIC ${cuda_sources})
add_library(bf::cuda ALIAS bf_cuda)
set_target_properties(bf_cuda PROPERTIES EXPORT_NAME cuda)
# Device functions of one file are called from that file alone, so nothing is linked on the device.
set_target_properties(bf_cuda PROPERTIES CUDA_SEPARABLE_COMPILATION OFF)
target_compile_definitions(bf_cuda PUBLIC BF_HAVE_CUDA=1 PRIVATE BF_COMPILED_CPU=1)
string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
set_source_files_properties(${PROJECT_SOURCE_DIR}/cuda/facts.cpp PROPERTIES COMPILE_DEFINITIONS
                            "BF_CUDA_ARCHITECTURES=\"${architectures}\"")
target_link_libraries(bf_cuda PUBLIC bf_headers
                      PRIVATE CUDA::cudart_static CUDA::cublas CUDA::cublasLt cuDNN::cudnn ${CMAKE_DL_LIBS})
set(host_warnings -Wall -Wextra)
if(BF_WARNINGS_AS_ERRORS)
  list(APPEND host_warnings -Werror)
  set(device_errors --Werror=all-warnings)
endif()
# The stubs that nvcc writes are not clean under -Wpedantic and -Wshadow; .cpp files of this folder get the full set.
string(REPLACE ";" "," host_warnings "${host_warnings}")
target_compile_options(
  bf_cuda
  PRIVATE # CUDA_STANDARD 20 is not known to CMake 3.25
          $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr -Xcompiler=${host_warnings} ${device_errors}>
          $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:bf_warnings,INTERFACE_COMPILE_OPTIONS>>)

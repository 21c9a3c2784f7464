# For tests: the sources of bf::cuda compiled by the C++ compiler, their kernels run on the CPU
# (docs/decisions/011-cuda-on-cpu.md). Only tests/CMakeLists.txt includes it: there a .cu is C++.
file(GLOB on_cpu_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cpp ${PROJECT_SOURCE_DIR}/cuda/*.cu)
list(REMOVE_ITEM on_cpu_sources ${PROJECT_SOURCE_DIR}/cuda/dnn_graph.cpp)
set_source_files_properties(${on_cpu_sources} PROPERTIES LANGUAGE CXX)
set_source_files_properties(${PROJECT_SOURCE_DIR}/cuda/facts.cpp PROPERTIES COMPILE_DEFINITIONS
                            "BF_CUDA_ARCHITECTURES=\"none\"")
set(on_cpu ${PROJECT_SOURCE_DIR}/tests/cuda_on_cpu)
add_library(bf_cuda_on_cpu STATIC ${on_cpu_sources} ${on_cpu}/threads.cpp ${on_cpu}/runtime.cpp ${on_cpu}/blas.cpp
                                  ${on_cpu}/convolution.cpp)
target_compile_definitions(bf_cuda_on_cpu PUBLIC BF_HAVE_CUDA=1 BF_COMPILED_CPU=1 BF_CUDA_ON_CPU=1)
target_include_directories(bf_cuda_on_cpu PRIVATE ${PROJECT_SOURCE_DIR})
target_include_directories(bf_cuda_on_cpu SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${cuDNN_INCLUDE_DIR})
target_compile_options(bf_cuda_on_cpu PRIVATE -O1 -include ${on_cpu}/kernel.hpp)
target_link_libraries(bf_cuda_on_cpu PUBLIC bf_headers PRIVATE bf_warnings)

# Kernels of the CPU to compare with: bf_cpu would bring bf_cuda. Both are of use where they are fast.
set_source_files_properties(${cpu_sources} PROPERTIES COMPILE_DEFINITIONS Eigen=bf_eigen COMPILE_OPTIONS -O2)
set_source_files_properties(${on_cpu}/blas.cpp PROPERTIES COMPILE_OPTIONS -O3)
add_executable(test_cuda_on_cpu ops/ops_test.cpp ops/cases.cpp kernels/classifier_cuda_test.cpp
                                optim/device_broadface_test.cpp optim/device_margin_head_test.cpp ${cpu_sources})
target_link_libraries(test_cuda_on_cpu PRIVATE bf_cuda_on_cpu bf_warnings GTest::gtest_main)
target_include_directories(test_cuda_on_cpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR})
target_compile_definitions(test_cuda_on_cpu PRIVATE BF_TEST_DIR="${CMAKE_CURRENT_SOURCE_DIR}" BF_SHARED_DIR="${shared}")
# One thread, one order of sums: that the same bits come again proves nothing here, and takes minutes.
gtest_discover_tests(test_cuda_on_cpu TEST_PREFIX cuda_on_cpu. TEST_FILTER "*Cuda*:GpuBroadFace.*:GpuMarginHead.*-*SameBits*"
                     DISCOVERY_MODE PRE_TEST PROPERTIES LABELS fast TIMEOUT 600 ENVIRONMENT BF_CUDA_TF32=0)

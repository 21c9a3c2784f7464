# For tests: a device that the CPU emulates, in the place of bf::cuda (docs/decisions/009-emulated-device.md).
add_library(bf_emulated STATIC ${PROJECT_SOURCE_DIR}/tests/emulated/machine.cpp
                               ${PROJECT_SOURCE_DIR}/tests/emulated/tables.cpp)
target_compile_definitions(bf_emulated PUBLIC BF_HAVE_CUDA=1 BF_EMULATED_DEVICE=1 PRIVATE BF_COMPILED_CPU=1)
target_include_directories(bf_emulated PRIVATE ${PROJECT_SOURCE_DIR})
# Its kernels are those of bf_cpu, which links it in turn: static libraries may.
target_link_libraries(bf_emulated PUBLIC bf_headers PRIVATE bf_warnings bf_cpu)
target_compile_options(bf_emulated PRIVATE ${BF_KERNEL_FLAGS})

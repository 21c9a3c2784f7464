// Looks before anything else runs whether this processor has the instructions that the build uses: without, the first
// of them would end the program with no word. This file is compiled for any processor of the architecture.
#include "instructions.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace bf::program {

bool processor_has(const char* name) {
#if defined(__x86_64__)
#define BF_LOOK(known) \
    if (std::strcmp(name, known) == 0) return __builtin_cpu_supports(known) != 0;
    BF_LOOK("sse4.2")
    BF_LOOK("popcnt")
    BF_LOOK("avx")
    BF_LOOK("avx2")
    BF_LOOK("fma")
    BF_LOOK("bmi")
    BF_LOOK("bmi2")
    BF_LOOK("avx512f")
    BF_LOOK("avx512bw")
    BF_LOOK("avx512dq")
    BF_LOOK("avx512vl")
    BF_LOOK("avx512cd")
    BF_LOOK("avx512vbmi")
    BF_LOOK("avx512vbmi2")
    BF_LOOK("avx512vnni")
    BF_LOOK("avx512bitalg")
    BF_LOOK("avx512vpopcntdq")
    BF_LOOK("avx512bf16")
    BF_LOOK("gfni")
#undef BF_LOOK
#else
    static_cast<void>(name);
#endif
    return true;
}

bool missing_instructions(const char* const* needed, bool (*has)(const char*), char* text, std::size_t size) {
    const char* first = nullptr;
    int more = 0;
    for (; *needed; ++needed)
        if (!has(*needed)) first ? static_cast<void>(++more) : static_cast<void>(first = *needed);
    if (!first) return false;
    char others[32] = "";
    if (more) std::snprintf(others, sizeof others, " and %d more", more);
    std::snprintf(text, size,
                  "bf: error: this build uses instructions that this processor does not have; missing: %s%s\n"
                  "hint: build on this machine (cmake --preset cpu), or for any machine with AVX2 (cmake --preset "
                  "cpu-portable)\n",
                  first, others);
    return true;
}

namespace {
// before the constructors of the program's other parts, which may use any instruction
[[gnu::constructor(101)]] void look() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    char text[512];
    if (!missing_instructions(instructions_needed, processor_has, text, sizeof text)) return;
    if (::write(2, text, std::strlen(text)) < 0) ::_exit(1);
    ::_exit(1);
}
}  // namespace

}  // namespace bf::program

#pragma once
#include <cstddef>

namespace bf::program {

/// Names, as /proc/cpuinfo has them, of the instructions that this build uses; null at the end.
extern const char* const instructions_needed[];

/// Whether the processor has them, and the system lets programs use them. Unknown names count as there.
bool processor_has(const char* name);

/// Writes a message for people into `text` if one of `needed` (null at the end) is missing, and returns whether one is.
bool missing_instructions(const char* const* needed, bool (*has)(const char*), char* text, std::size_t size);

}  // namespace bf::program

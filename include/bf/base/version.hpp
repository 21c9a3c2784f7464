#pragma once
// The version in one place; CMake reads these three lines.
#define BF_VERSION_MAJOR 0
#define BF_VERSION_MINOR 1
#define BF_VERSION_PATCH 0

namespace bf {

/// The engine's version, "major.minor.patch".
inline constexpr const char* version = "0.1.0";

}  // namespace bf

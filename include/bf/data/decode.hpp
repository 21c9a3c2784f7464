#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "bf/data/image.hpp"

namespace bf {

/// Bounds on what a decoder may allocate.
struct DecodeLimits {
    int max_side = 8192;
    std::size_t max_file = std::size_t{64} << 20;  ///< bytes
};

/// Decodes a JPEG, PNG or binary PGM/PPM to RGB. Throws a data Error that names `name` and says what is wrong: empty,
/// truncated, damaged, too large, or not an image. Link bf::images.
Image decode_image(std::span<const std::byte> bytes, const std::string& name, const DecodeLimits& limits = {});

/// Reads and decodes a file.
Image read_image(const std::filesystem::path& path, const DecodeLimits& limits = {});

}  // namespace bf

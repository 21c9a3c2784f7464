#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "bf/data/image.hpp"

namespace bf {

/// Bounds on what a decoder may allocate, and the size of interest.
struct DecodeLimits {
    int max_side = 8192;
    std::size_t max_file = std::size_t{64} << 20;  ///< bytes
    /// Pixels. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side stays at least this long (the
    /// factors that libjpeg-turbo has fast transforms for; 5/8 would take longer than the whole). 0: at its own size.
    int wanted_side = 0;
};

/// Decodes a JPEG (also CMYK, YCCK and grey), PNG or binary PGM/PPM to RGB. Throws a data Error that names `name` and
/// says what is wrong: empty, truncated, damaged, too large, or not an image. Link bf::images.
Image decode_image(std::span<const std::byte> bytes, const std::string& name, const DecodeLimits& limits = {});
/// The same into an image whose memory is used again. After an Error its pixels mean nothing.
void decode_image(std::span<const std::byte> bytes, const std::string& name, Image& into,
                  const DecodeLimits& limits = {});

/// Reads and decodes a file.
Image read_image(const std::filesystem::path& path, const DecodeLimits& limits = {});
void read_image(const std::filesystem::path& path, Image& into, const DecodeLimits& limits = {});

}  // namespace bf

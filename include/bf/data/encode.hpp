#pragma once
#include <cstddef>
#include <filesystem>
#include <vector>

#include "bf/data/image.hpp"

namespace bf {

/// Encodes an RGB or grey image as a baseline JPEG: colour halved in both directions (4:2:0) as OpenCV and the packers
/// of the field write it, at quality 100 in full (4:4:4). quality 1..100. The same pixels give the same bytes. Throws a
/// usage Error in a build without libjpeg-turbo. Link bf::images.
std::vector<std::byte> encode_jpeg(const Image& image, int quality = 95);

/// Encodes an RGB or grey image as PNG, without loss. Throws a usage Error in a build without stb_image_write.
std::vector<std::byte> encode_png(const Image& image);

/// Encodes by the ending of `path`: .jpg and .jpeg (quality), .png, .ppm (RGB) or .pgm (grey). Any other is a usage
/// Error, so that a program can ask before its work.
std::vector<std::byte> encode_image(const std::filesystem::path& path, const Image& image, int quality = 95);

/// Throws the usage Error that encode_image() would throw for this ending: unknown, or not part of this build.
void check_can_encode(const std::filesystem::path& path);

/// Writes encode_image() atomically: the name shows the old file or the whole new one.
void write_image(const std::filesystem::path& path, const Image& image, int quality = 95);

}  // namespace bf

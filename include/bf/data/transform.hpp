#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

#include "bf/data/image.hpp"
#include "bf/data/input_format.hpp"
#include "bf/data/resize.hpp"

namespace bf {

/// The largest centred square, resized to size x size.
inline Image to_square(const Image& in, int size) {
    const int side = std::min(in.width, in.height);
    if (side == in.width && side == in.height) return resize(in, size, size);
    Image square(side, side, in.channels);
    const int x0 = (in.width - side) / 2, y0 = (in.height - side) / 2;
    for (int y = 0; y < side; ++y) std::copy_n(in.at(x0, y0 + y), side * in.channels, square.at(0, y));
    return resize(square, size, size);
}

/// Mirrors left and right in place.
inline void flip_horizontal(Image& image) {
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width / 2; ++x)
            std::swap_ranges(image.at(x, y), image.at(x, y) + image.channels, image.at(image.width - 1 - x, y));
}

/// Writes RGB images of one width as write_input() does, mirrored on request, a row in one pass that compilers
/// vectorise: scales and shifts stand beside each other as the values of a row do.
class InputWriter {
  public:
    InputWriter(const InputFormat& format, int width) : bgr_(format.bgr) {
        for (int x = 0; x < width; ++x)
            for (std::size_t c = 0; c < 3; ++c) {
                scale_.push_back(format.scale[c]);
                shift_.push_back(format.shift[c]);
            }
        row_.resize(scale_.size() + 1);
    }
    /// out: height * width * 3 floats.
    void operator()(const Image& image, bool mirrored, float* out) {
        const std::size_t n = scale_.size();
        for (int y = 0; y < image.height; ++y, out += n) {
            const std::uint8_t* from = image.at(0, y);
            if (mirrored || bgr_) from = reordered(from, mirrored);
            const float *scale = scale_.data(), *shift = shift_.data();
            for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(from[i]) * scale[i] + shift[i];
        }
    }

  private:
    const std::uint8_t* reordered(const std::uint8_t* from, bool mirrored) {
        const std::size_t n = scale_.size();
        std::uint8_t* to = row_.data();
        if (!bgr_) {  // four bytes at once, of which the next pixel overwrites one
            std::memcpy(to, from + n - 3, 3);
            for (std::size_t i = 3; i < n; i += 3) std::memcpy(to + i, from + n - 3 - i, 4);
            return to;
        }
        for (std::size_t i = 0; i < n; i += 3) {
            const std::uint8_t* p = from + (mirrored ? n - 3 - i : i);
            to[i] = p[2];
            to[i + 1] = p[1];
            to[i + 2] = p[0];
        }
        return to;
    }
    bool bgr_;
    std::vector<float> scale_, shift_;
    std::vector<std::uint8_t> row_;
};

}  // namespace bf

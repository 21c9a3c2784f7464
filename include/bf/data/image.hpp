#pragma once
#include <cstdint>
#include <vector>

namespace bf {

/// An 8-bit image in memory: rows top to bottom, channels innermost (RGB or grey).
struct Image {
    int width = 0, height = 0, channels = 3;
    std::vector<std::uint8_t> pixels;  ///< height * width * channels

    Image() = default;
    Image(int w, int h, int c = 3)
        : width(w),
          height(h),
          channels(c),
          pixels(static_cast<std::size_t>(w) * static_cast<std::size_t>(h) * static_cast<std::size_t>(c)) {}

    /// Becomes this size; memory is kept, pixels mean nothing.
    void resize(int w, int h, int c = 3) {
        width = w;
        height = h;
        channels = c;
        pixels.resize(static_cast<std::size_t>(w) * static_cast<std::size_t>(h) * static_cast<std::size_t>(c));
    }
    std::uint8_t* at(int x, int y) { return pixels.data() + offset(x, y); }
    const std::uint8_t* at(int x, int y) const { return pixels.data() + offset(x, y); }

  private:
    std::size_t offset(int x, int y) const {
        return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
               static_cast<std::size_t>(channels);
    }
};

}  // namespace bf

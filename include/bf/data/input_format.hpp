#pragma once
#include <array>
#include <map>
#include <string>

#include "bf/base/error.hpp"
#include "bf/data/image.hpp"

namespace bf {

/// What a network expects of pixels: x = pixel * scale + shift, channel by channel, in the order that the network
/// takes. The default is InsightFace's (pixel / 255 - 0.5) / 0.5 on RGB.
struct InputFormat {
    bool bgr = false;
    std::array<float, 3> scale{2.0f / 255, 2.0f / 255, 2.0f / 255}, shift{-1, -1, -1};

    bool operator==(const InputFormat&) const = default;
};

/// torchvision's: (pixel / 255 - mean) / std of ImageNet, RGB.
inline InputFormat imagenet_input() {
    InputFormat f;
    constexpr std::array<double, 3> mean{0.485, 0.456, 0.406}, deviation{0.229, 0.224, 0.225};
    for (std::size_t c = 0; c < 3; ++c) {
        f.scale[c] = static_cast<float>(1 / (255 * deviation[c]));
        f.shift[c] = static_cast<float>(-mean[c] / deviation[c]);
    }
    return f;
}

/// Writes an RGB image as H * W * 3 floats, channels innermost.
inline void write_input(const Image& image, const InputFormat& format, float* out) {
    const std::size_t first = format.bgr ? 2 : 0, last = 2 - first;
    for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
        const std::uint8_t* p = image.pixels.data() + i;
        out[i] = static_cast<float>(p[first]) * format.scale[0] + format.shift[0];
        out[i + 1] = static_cast<float>(p[1]) * format.scale[1] + format.shift[1];
        out[i + 2] = static_cast<float>(p[last]) * format.scale[2] + format.shift[2];
    }
}

}  // namespace bf

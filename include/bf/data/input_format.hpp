#pragma once
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

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

/// "RGB, x * 0.007843138 0.007843138 0.007843138 + -1 -1 -1": how a model file records its input (x: 0..255), exactly.
inline std::string to_text(const InputFormat& f) {
    std::string text = f.bgr ? "BGR, x *" : "RGB, x *";
    const auto put = [&text](const std::array<float, 3>& values) {
        for (const float v : values) {
            char digits[32];
            text += ' ';
            text.append(digits, std::to_chars(digits, digits + sizeof digits, v).ptr);
        }
    };
    put(f.scale);
    text += " +";
    put(f.shift);
    return text;
}

/// The format that to_text() wrote, or the default for the phrase that files of bf 0.1 have; a data Error names
/// `where` for anything else.
inline InputFormat parse_input_format(std::string_view text, const std::string& where) {
    InputFormat f;
    if (text == "RGB, (x / 255 - 0.5) / 0.5") return f;
    const std::string_view whole = text;
    const auto want = [&](bool holds) {
        BF_CHECK_DATA(holds, where, "input format; got ", whole.substr(0, 100), ", want such as ", to_text({}));
    };
    const auto skip = [&](std::string_view word) {
        want(text.substr(0, word.size()) == word);
        text.remove_prefix(word.size());
    };
    const auto take = [&](std::array<float, 3>& values) {
        for (float& v : values) {
            skip(" ");
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
            want(error == std::errc() && std::isfinite(v));
            text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        }
    };
    f.bgr = text.substr(0, 3) == "BGR";
    skip(f.bgr ? "BGR, x *" : "RGB, x *");
    take(f.scale);
    skip(" +");
    take(f.shift);
    want(text.empty());
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

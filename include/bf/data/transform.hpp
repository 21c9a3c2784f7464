#pragma once
#include <algorithm>
#include <cmath>

#include "bf/base/random.hpp"
#include "bf/data/image.hpp"

namespace bf {

/// Resizes by bilinear sampling of pixel centres; when shrinking, over an area as large as the step (a triangle
/// filter), so that fine detail does not alias.
inline Image resize(const Image& in, int width, int height) {
    if (in.width == width && in.height == height) return in;
    struct Taps {
        int first;
        std::vector<float> weight;
    };
    const auto taps = [](int from, int to) {
        std::vector<Taps> all(static_cast<std::size_t>(to));
        const float step = static_cast<float>(from) / static_cast<float>(to), reach = std::max(1.0f, step);
        for (int i = 0; i < to; ++i) {
            const float centre = (static_cast<float>(i) + 0.5f) * step - 0.5f;
            const int begin = std::max(0, static_cast<int>(std::ceil(centre - reach + 1e-4f)));
            const int end = std::min(from - 1, static_cast<int>(std::floor(centre + reach - 1e-4f)));
            Taps& t = all[static_cast<std::size_t>(i)];
            t.first = begin;
            float sum = 0;
            for (int k = begin; k <= end; ++k) {
                t.weight.push_back(std::max(0.0f, 1 - std::abs(static_cast<float>(k) - centre) / reach));
                sum += t.weight.back();
            }
            for (float& w : t.weight) w /= sum;
        }
        return all;
    };
    const auto across = taps(in.width, width), down = taps(in.height, height);
    const int c = in.channels;
    std::vector<float> rows(static_cast<std::size_t>(in.height) * static_cast<std::size_t>(width * c));
    for (int y = 0; y < in.height; ++y)
        for (int x = 0; x < width; ++x) {
            const Taps& t = across[static_cast<std::size_t>(x)];
            float* to = rows.data() +
                        (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
                            static_cast<std::size_t>(c);
            for (std::size_t k = 0; k < t.weight.size(); ++k) {
                const std::uint8_t* from = in.at(t.first + static_cast<int>(k), y);
                for (int ch = 0; ch < c; ++ch) to[ch] += t.weight[k] * static_cast<float>(from[ch]);
            }
        }
    Image out(width, height, c);
    std::vector<float> line(static_cast<std::size_t>(width * c));
    for (int y = 0; y < height; ++y) {
        const Taps& t = down[static_cast<std::size_t>(y)];
        std::fill(line.begin(), line.end(), 0.5f);
        for (std::size_t k = 0; k < t.weight.size(); ++k) {
            const float* from = rows.data() + static_cast<std::size_t>(t.first + static_cast<int>(k)) * line.size();
            for (std::size_t i = 0; i < line.size(); ++i) line[i] += t.weight[k] * from[i];
        }
        for (std::size_t i = 0; i < line.size(); ++i)
            out.at(0, y)[i] = static_cast<std::uint8_t>(std::clamp(line[i], 0.0f, 255.0f));
    }
    return out;
}

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

/// Random changes of a training image; probabilities and strengths of 0 are off.
struct Augment {
    bool flip = true;          ///< mirrored with probability 1/2
    int crop_pad = 0;          ///< pixels: shifted by up to this, edges repeated
    float brightness = 0;      ///< added, up to this share of the range
    float contrast = 0;        ///< scaled about the mean by 1 +- this
    float saturation = 0;      ///< scaled about the grey by 1 +- this
    float erase = 0;           ///< probability of a grey rectangle over up to a sixth of the image
    float low_resolution = 0;  ///< probability of shrinking by 2 to 4 and growing back

    /// Applies the changes; the same draws give the same image.
    void operator()(Image& image, Rng& rng) const {
        const int size = image.width;
        if (flip && rng.chance(0.5f)) flip_horizontal(image);
        if (crop_pad > 0) {
            const int range = 2 * crop_pad + 1;
            const int dx = static_cast<int>(rng.below(static_cast<std::uint64_t>(range))) - crop_pad,
                      dy = static_cast<int>(rng.below(static_cast<std::uint64_t>(range))) - crop_pad;
            const Image from = image;
            for (int y = 0; y < image.height; ++y)
                for (int x = 0; x < size; ++x)
                    std::copy_n(from.at(std::clamp(x + dx, 0, size - 1), std::clamp(y + dy, 0, image.height - 1)),
                                image.channels, image.at(x, y));
        }
        if (low_resolution > 0 && rng.chance(low_resolution)) {
            const int small = std::max(4, static_cast<int>(static_cast<float>(size) / rng.uniform(2, 4)));
            image = resize(resize(image, small, small), size, size);
        }
        if (brightness > 0 || contrast > 0 || saturation > 0) {
            const float add = 255 * rng.uniform(-brightness, brightness), scale = 1 + rng.uniform(-contrast, contrast),
                        colour = 1 + rng.uniform(-saturation, saturation);
            for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
                std::uint8_t* p = image.pixels.data() + i;
                const float grey = 0.299f * static_cast<float>(p[0]) + 0.587f * static_cast<float>(p[1]) +
                                   0.114f * static_cast<float>(p[2]);
                for (int c = 0; c < 3; ++c) {
                    const float v = grey + colour * (static_cast<float>(p[c]) - grey);
                    p[c] = static_cast<std::uint8_t>(std::clamp(127.5f + scale * (v - 127.5f) + add, 0.0f, 255.0f));
                }
            }
        }
        if (erase > 0 && rng.chance(erase)) {
            const int w = static_cast<int>(static_cast<float>(size) * rng.uniform(0.15f, 0.4f)),
                      h = static_cast<int>(static_cast<float>(size) * rng.uniform(0.15f, 0.4f));
            const int x0 = static_cast<int>(rng.below(static_cast<std::uint64_t>(size - w))),
                      y0 = static_cast<int>(rng.below(static_cast<std::uint64_t>(size - h)));
            for (int y = y0; y < y0 + h; ++y) std::fill_n(image.at(x0, y), w * image.channels, std::uint8_t{128});
        }
    }
};

}  // namespace bf

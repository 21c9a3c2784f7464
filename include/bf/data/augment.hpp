#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "bf/base/random.hpp"
#include "bf/data/transform.hpp"

namespace bf {

/// Random changes of a training image, in this order; probabilities and strengths of 0 are off. Defaults of the details
/// are those of the sources named.
struct Augment {
    bool flip = true;          ///< mirrored with probability 1/2
    int crop_pad = 0;          ///< pixels: shifted by up to this, edges repeated
    float brightness = 0;      ///< times 1 +- this (this and the next three: torchvision's ColorJitter)
    float contrast = 0;        ///< scaled about the mean grey by 1 +- this
    float saturation = 0;      ///< scaled about each pixel's grey by 1 +- this
    float erase = 0;           ///< probability of an erased rectangle (Zhong et al., "Random erasing", AAAI 2020)
    float low_resolution = 0;  ///< probability of shrinking and growing back, each by a random interpolation (AdaFace)
    float hue = 0;             ///< turned by up to this part of the circle, at most 0.5
    float photometric = 1;     ///< probability of the four above, which come in random order
    float crop = 0;            ///< probability of a random crop
    float crop_min_area = 0.2f;  ///< smallest share of the image that a crop keeps; its aspect: 3/4..4/3
    bool crop_resize = false;  ///< the crop grows to the whole (torchvision); else it stays, black around it (AdaFace)
    float low_resolution_min = 0.2f;                      ///< smallest share of the side
    float erase_min_area = 0.02f, erase_max_area = 0.4f;  ///< shares of the image
    float erase_min_aspect = 0.3f;                        ///< height to width: from this to its inverse
    bool erase_random = true;                             ///< erased by random values; else by grey

    /// Applies the changes; the same draws give the same image.
    void operator()(Image& image, Rng& rng) const {
        if (change(image, rng)) flip_horizontal(image);
    }
    /// All but the mirroring: returns whether it is still to be done, since a writer does it on the way.
    bool change(Image& image, Rng& rng) const {
        const bool mirror = flip && rng.chance(0.5f);
        if (crop > 0 && rng.chance(crop)) random_crop(image, rng);
        if (crop_pad > 0) shift(image, rng);
        if (low_resolution > 0 && rng.chance(low_resolution)) coarsen(image, rng);
        if ((brightness > 0 || contrast > 0 || saturation > 0 || hue > 0) &&
            (photometric >= 1 || rng.chance(photometric)))
            jitter(image, rng);
        if (erase > 0 && rng.chance(erase)) erase_part(image, rng);
        return mirror;
    }

  private:
    static int below(Rng& rng, int n) { return static_cast<int>(rng.below(static_cast<std::uint64_t>(n))); }
    /// A rectangle of random area and aspect (uniform in its logarithm) that fits, or an empty one after ten tries.
    struct Box {
        int x = 0, y = 0, width = 0, height = 0;
    };
    static Box random_box(const Image& image, Rng& rng, float min_area, float max_area, float min_aspect, int tries) {
        const float whole = static_cast<float>(image.width) * static_cast<float>(image.height),
                    spread = -std::log(min_aspect);
        for (int i = 0; i < tries; ++i) {
            const float area = whole * rng.uniform(min_area, max_area), aspect = std::exp(rng.uniform(-spread, spread));
            const int w = static_cast<int>(std::lround(std::sqrt(area * aspect))),
                      h = static_cast<int>(std::lround(std::sqrt(area / aspect)));
            if (w < 1 || h < 1 || w > image.width || h > image.height) continue;
            const int x = below(rng, image.width - w + 1);
            return {x, below(rng, image.height - h + 1), w, h};
        }
        return {};
    }
    void random_crop(Image& image, Rng& rng) const {
        const Box box = random_box(image, rng, crop_min_area, 1, 0.75f, 10);
        if (box.width == 0) return;
        const auto part = static_cast<std::size_t>(box.width * image.channels);
        if (crop_resize) {
            Image kept(box.width, box.height, image.channels);
            for (int y = 0; y < box.height; ++y) std::memcpy(kept.at(0, y), image.at(box.x, box.y + y), part);
            resize_into(kept, image.width, image.height, image);
            return;
        }
        Image kept(image.width, image.height, image.channels);
        for (int y = box.y; y < box.y + box.height; ++y) std::memcpy(kept.at(box.x, y), image.at(box.x, y), part);
        image = std::move(kept);
    }
    void shift(Image& image, Rng& rng) const {
        const int dx = below(rng, 2 * crop_pad + 1) - crop_pad, dy = below(rng, 2 * crop_pad + 1) - crop_pad;
        const Image from = image;
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < image.width; ++x)
                std::copy_n(from.at(std::clamp(x + dx, 0, image.width - 1), std::clamp(y + dy, 0, image.height - 1)),
                            image.channels, image.at(x, y));
    }
    void coarsen(Image& image, Rng& rng) const {
        constexpr std::array<Interpolation, 5> kinds{Interpolation::nearest, Interpolation::linear, Interpolation::area,
                                                     Interpolation::cubic, Interpolation::lanczos4};
        const float share = rng.uniform(low_resolution_min, 1);
        const int width = image.width, height = image.height;
        const auto shrunk = [share](int side) {
            return std::max(1, static_cast<int>(share * static_cast<float>(side)));
        };
        const auto shrink = kinds[rng.below(kinds.size())], grow = kinds[rng.below(kinds.size())];
        resize_into(resize(image, shrunk(width), shrunk(height), shrink), width, height, image, grow);
    }

    static float grey(const std::uint8_t* p) {
        return 0.299f * static_cast<float>(p[0]) + 0.587f * static_cast<float>(p[1]) +
               0.114f * static_cast<float>(p[2]);
    }
    static std::uint8_t level(float v) { return static_cast<std::uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f)); }
    void jitter(Image& image, Rng& rng) const {
        std::array<int, 4> order{0, 1, 2, 3};
        for (int i = 3; i > 0; --i)
            std::swap(order[static_cast<std::size_t>(i)], order[rng.below(static_cast<std::uint64_t>(i) + 1)]);
        const std::array<float, 4> strength{brightness, contrast, saturation, hue};
        for (const int k : order) {
            const float s = strength[static_cast<std::size_t>(k)];
            if (s <= 0) continue;
            const float draw = rng.uniform(-s, s);
            if (k == 0) scale_about(image, 1 + draw, 0);
            if (k == 1) scale_about(image, 1 + draw, mean_grey(image));
            if (k == 2) change_saturation(image, 1 + draw);
            if (k == 3) turn_hue(image, draw);
        }
    }
    void erase_part(Image& image, Rng& rng) const {
        const Box box = random_box(image, rng, erase_min_area, erase_max_area, erase_min_aspect, 100);
        for (int y = box.y; y < box.y + box.height; ++y) {
            std::uint8_t* row = image.at(box.x, y);
            for (int i = 0; i < box.width * image.channels; ++i)
                row[i] = erase_random ? static_cast<std::uint8_t>(rng.bits() >> 24) : std::uint8_t{128};
        }
    }

  public:
    // ---- the photometric changes, by themselves; RGB images

    static float mean_grey(const Image& image) {
        double sum = 0;
        for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3)
            sum += static_cast<double>(grey(image.pixels.data() + i));
        return static_cast<float>(sum * 3 / static_cast<double>(image.pixels.size()));
    }
    /// v -> about + factor * (v - about)
    static void scale_about(Image& image, float factor, float about) {
        std::array<std::uint8_t, 256> changed{};
        for (int v = 0; v < 256; ++v)
            changed[static_cast<std::size_t>(v)] = level(about + factor * (static_cast<float>(v) - about));
        for (std::uint8_t& v : image.pixels) v = changed[v];
    }
    static void change_saturation(Image& image, float factor) {
        for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
            std::uint8_t* p = image.pixels.data() + i;
            const float g = grey(p);
            for (int c = 0; c < 3; ++c) p[c] = level(g + factor * (static_cast<float>(p[c]) - g));
        }
    }
    /// Turns the hue of HSV by this part of the circle; value and saturation stay.
    static void turn_hue(Image& image, float part) {
        for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
            std::uint8_t* p = image.pixels.data() + i;
            const float r = p[0], g = p[1], b = p[2], top = std::max({r, g, b}), range = top - std::min({r, g, b});
            if (range <= 0) continue;
            float h = top == r ? (g - b) / range : top == g ? 2 + (b - r) / range : 4 + (r - g) / range;
            h += 6 * part + 12;
            // a channel falls from the top by range * (how far the hue is from the channel's two sextants)
            for (int c = 0; c < 3; ++c) {
                const float k = std::fmod(h + static_cast<float>(5 - 2 * c), 6.0f);
                p[c] = level(top - range * std::clamp(std::min(k, 4 - k), 0.0f, 1.0f));
            }
        }
    }
};

/// AdaFace's augmentations (Kim et al., CVPR 2022): flip, crop, low resolution and photometric changes at 0.2 each.
inline Augment adaface_augment() {
    return {.brightness = 0.5f,
            .contrast = 0.5f,
            .saturation = 0.5f,
            .low_resolution = 0.2f,
            .photometric = 0.2f,
            .crop = 0.2f};
}

}  // namespace bf

// Resizing, augmentations and decoding beside OpenCV, Pillow and colorsys (transform_golden.py).
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>

#include "bf/data/augment.hpp"
#include "bf/data/decode.hpp"

namespace {

using bf::Image;
using bf::Interpolation;

/// Images of transform_golden.txt by `name` or, where there are several sizes, `name WIDTH`.
const std::map<std::string, Image>& golden() {
    static const auto all = [] {
        std::map<std::string, Image> images;
        std::ifstream in(std::string(BF_TEST_DIR) + "/data/transform_golden.txt");
        std::string line;
        while (std::getline(in, line)) {
            std::istringstream words(line);
            std::string name;
            int width = 0, height = 0, value = 0;
            words >> name >> width >> height;
            Image image(width, height);
            for (std::uint8_t& v : image.pixels) {
                words >> value;
                v = static_cast<std::uint8_t>(value);
            }
            EXPECT_TRUE(words) << name;
            if (images.count(name) || name == "nearest" || name == "linear" || name == "area" || name == "cubic" ||
                name == "lanczos4" || name == "triangle")
                name += " " + std::to_string(width);
            images[name] = std::move(image);
        }
        return images;
    }();
    return all;
}
int largest_difference(const Image& a, const Image& b) {
    EXPECT_EQ(a.width, b.width);
    EXPECT_EQ(a.pixels.size(), b.pixels.size());
    int most = 0;
    for (std::size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i)
        most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
    return most;
}
double mean_difference(const Image& a, const Image& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(a.pixels[i] - b.pixels[i]);
    return sum / static_cast<double>(a.pixels.size());
}

TEST(Resize, AsOpenCvAndPillow) {
    const std::map<std::string, Interpolation> kinds{
        {"triangle", Interpolation::triangle}, {"nearest", Interpolation::nearest},
        {"linear", Interpolation::linear},     {"area", Interpolation::area},
        {"cubic", Interpolation::cubic},       {"lanczos4", Interpolation::lanczos4}};
    for (const auto& [name, kind] : kinds)
        for (const auto& [width, height] : {std::pair{9, 7}, {5, 4}, {25, 16}}) {
            const Image& want = golden().at(name + " " + std::to_string(width));
            // all of them compute with weights in 1/2048 or so
            EXPECT_LE(largest_difference(bf::resize(golden().at("image"), width, height, kind), want),
                      kind == Interpolation::nearest ? 0 : 1)
                << name << " to " << width << " x " << height;
        }
}

TEST(Augmentation, PhotometricChangesAsPillow) {
    const auto expect = [](const std::string& name, auto change, int most) {
        Image image = golden().at("image");
        change(image);
        EXPECT_LE(largest_difference(image, golden().at(name)), most) << name;
    };
    for (const int percent : {60, 140}) {
        const float f = static_cast<float>(percent) / 100;
        const std::string tail = "_" + std::to_string(percent);
        expect(
            "brightness" + tail, [f](Image& i) { bf::Augment::scale_about(i, f, 0); }, 1);
        expect(
            "contrast" + tail, [f](Image& i) { bf::Augment::scale_about(i, f, bf::Augment::mean_grey(i)); }, 1);
        expect(
            "saturation" + tail, [f](Image& i) { bf::Augment::change_saturation(i, f); }, 1);
    }
    expect(
        "hue_-20", [](Image& i) { bf::Augment::turn_hue(i, -0.2f); }, 1);
    expect(
        "hue_30", [](Image& i) { bf::Augment::turn_hue(i, 0.3f); }, 1);
}

Image bright(int side) {
    Image image(side, side);
    for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(60 + i * 7 % 131);
    return image;
}

TEST(Augmentation, ACropKeepsWhatItShowsInPlaceOrGrows) {
    const Image before = bright(40);
    double kept = 0;
    for (std::uint64_t seed = 0; seed < 900; ++seed) {
        bf::Rng rng(seed);
        Image image = before;
        bf::Augment{.flip = false, .crop = 1}(image, rng);
        int x0 = 40, y0 = 40, x1 = -1, y1 = -1;
        for (int y = 0; y < 40; ++y)
            for (int x = 0; x < 40; ++x) {
                if (image.at(x, y)[0] == 0) continue;
                ASSERT_EQ(std::memcmp(image.at(x, y), before.at(x, y), 3), 0);
                x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
            }
        const int area = (x1 - x0 + 1) * (y1 - y0 + 1);
        std::int64_t shown = 0;
        for (std::size_t i = 0; i < image.pixels.size(); i += 3) shown += image.pixels[i] != 0;
        ASSERT_EQ(shown, area);  // one rectangle
        ASSERT_GE(area, 0.18 * 1600);
        kept += area / 1600.0 / 900;
    }
    EXPECT_NEAR(kept, 0.548, 0.03);  // 0.6, less what does not fit near 1 (40,000 draws of the rule in numpy)
    bf::Rng rng(1);
    Image grown = bright(40);
    bf::Augment{.flip = false, .crop = 1, .crop_resize = true}(grown, rng);
    EXPECT_EQ(std::count(grown.pixels.begin(), grown.pixels.end(), 0), 0);
    EXPECT_GT(mean_difference(grown, bright(40)), 5);
}

TEST(Augmentation, ErasedAreasAndAspectsAreInRange) {
    const Image before = bright(60);
    double mean = 0;
    int tall = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        bf::Rng rng(seed);
        Image image = before;
        bf::Augment{.flip = false, .erase = 1, .erase_random = false}(image, rng);
        int x0 = 60, y0 = 60, x1 = -1, y1 = -1;
        for (int y = 0; y < 60; ++y)
            for (int x = 0; x < 60; ++x)
                if (std::memcmp(image.at(x, y), before.at(x, y), 3) != 0)
                    x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
        const double w = x1 - x0 + 1, h = y1 - y0 + 1;
        ASSERT_GE(w * h / 3600, 0.014);  // 0.02 but for whole pixels
        ASSERT_LE(w * h / 3600, 0.42);
        ASSERT_LE(std::max(w / h, h / w), 1 / 0.3 * 1.2);
        mean += w * h / 3600 / 400;
        tall += h > w;
    }
    EXPECT_NEAR(mean, 0.205, 0.03);
    EXPECT_NEAR(tall, 190, 50);
    bf::Rng rng(5);
    Image noisy(40, 40);
    bf::Augment{.flip = false, .erase = 1, .erase_min_area = 0.4f}(noisy, rng);
    std::array<int, 256> seen{};
    for (const std::uint8_t v : noisy.pixels) ++seen[v];
    EXPECT_GT(std::count_if(seen.begin(), seen.end(), [](int n) { return n > 0; }), 200);  // values of all levels
}

TEST(Augmentation, EachHasItsProbabilityAndTheSameDrawsGiveTheSameImage) {
    const Image before = bright(24);
    const auto share = [&](const bf::Augment& augment) {
        int changed = 0;
        for (std::uint64_t seed = 0; seed < 400; ++seed) {
            bf::Rng rng(seed), again(seed);
            Image image = before, twin = before;
            augment(image, rng);
            augment(twin, again);
            EXPECT_EQ(image.pixels, twin.pixels);
            changed += image.pixels != before.pixels;
        }
        return changed / 400.0;
    };
    EXPECT_NEAR(share({}), 0.5, 0.08);
    EXPECT_NEAR(share({.flip = false, .crop = 0.2f}), 0.2, 0.06);
    EXPECT_NEAR(share({.flip = false, .low_resolution = 0.2f}), 0.2, 0.06);
    EXPECT_NEAR(share({.flip = false, .brightness = 0.5f, .contrast = 0.5f, .saturation = 0.5f, .photometric = 0.2f}),
                0.2, 0.06);
    EXPECT_NEAR(share({.flip = false, .erase = 0.3f}), 0.3, 0.07);
    EXPECT_GT(share({.flip = false, .hue = 0.3f}), 0.98);  // but for turns too small to see
    EXPECT_NEAR(share(bf::adaface_augment()), 1 - 0.5 * 0.8 * 0.8 * 0.8, 0.08);
}

TEST(Augmentation, TheWriterMirrorsAndScalesAsTheirParts) {
    bf::InputFormat bgr = bf::imagenet_input();
    bgr.bgr = true;
    for (const int width : {1, 5, 24})  // with and without rows that are whole vectors
        for (const bf::InputFormat& format : {bf::InputFormat{}, bf::imagenet_input(), bgr})
            for (const bool mirrored : {false, true}) {
                Image image(width, 3);
                for (std::size_t i = 0; i < image.pixels.size(); ++i)
                    image.pixels[i] = static_cast<std::uint8_t>(i * 37);
                std::vector<float> got(image.pixels.size() + 4, -9), want = got;
                bf::InputWriter(format, width)(image, mirrored, got.data());
                if (mirrored) bf::flip_horizontal(image);
                bf::write_input(image, format, want.data());
                for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << i;
            }
}

std::string bytes_of(const std::string& name) {
    std::ifstream in(std::string(BF_TEST_DIR) + "/data/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
Image decoded(const std::string& bytes, int wanted_side = 0) {
    return bf::decode_image(std::as_bytes(std::span(bytes)), "an image", {.wanted_side = wanted_side});
}
/// The file without segments of one kind.
std::string without(const std::string& file, unsigned char marker) {
    std::string out = file.substr(0, 2);
    for (std::size_t at = 2; at + 4 <= file.size();) {
        const auto kind = static_cast<unsigned char>(file[at + 1]);
        if (kind == 0xDA) return out + file.substr(at);
        const std::size_t length =
            2 + static_cast<unsigned char>(file[at + 2]) * 256u + static_cast<unsigned char>(file[at + 3]);
        if (kind != marker) out += file.substr(at, length);
        at += length;
    }
    return out;
}

TEST(DecodeJpeg, ColourGreyAndInkAsPillow) {
    for (const char* name : {"rgb", "grey", "cmyk"}) {
        const Image image = decoded(bytes_of(std::string(name) + ".jpg"));
        EXPECT_LE(largest_difference(image, golden().at(name)), name[0] == 'c' ? 1 : 0) << name;
    }
}

TEST(DecodeJpeg, SmallerSizesThatStillReachTheWantedOne) {
    const std::string file = bytes_of("rgb.jpg");  // 32 x 24
    const Image whole = decoded(file);
    for (const auto& [wanted, width, height] : {std::tuple{0, 32, 24},
                                                {24, 32, 24},
                                                {25, 32, 24},
                                                {13, 32, 24},
                                                {12, 16, 12},
                                                {7, 16, 12},
                                                {6, 8, 6},
                                                {3, 4, 3},
                                                {1, 4, 3}}) {
        const Image image = decoded(file, wanted);
        ASSERT_EQ(image.width, width) << wanted;
        ASSERT_EQ(image.height, height) << wanted;
        if (width == 32)
            EXPECT_EQ(image.pixels, whole.pixels);
        else
            EXPECT_LT(mean_difference(image, bf::resize(whole, width, height, Interpolation::area)), 6) << wanted;
    }
}

TEST(DecodeJpeg, NothingOfTheFileBeforeIsLeft) {
    const std::string colour = bytes_of("rgb.jpg"), grey = bytes_of("grey.jpg");
    const Image want = decoded(grey);
    decoded(colour);
    // without tables of its own a file is damaged, although the thread's decompressor has some
    EXPECT_THROW(decoded(without(grey, 0xDB)), bf::Error);
    // but the usual Huffman tables may be left out, as motion JPEG does
    decoded(colour);
    EXPECT_EQ(decoded(without(grey, 0xC4)).pixels, want.pixels);
    EXPECT_THROW(decoded(grey.substr(0, grey.size() / 2)), bf::Error);
    EXPECT_EQ(decoded(grey).pixels, want.pixels);
}

}  // namespace

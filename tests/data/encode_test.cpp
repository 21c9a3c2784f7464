#include "bf/data/encode.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "bf/base/error.hpp"
#include "bf/data/decode.hpp"

namespace {

namespace fs = std::filesystem;
using bf::Image;

/// Smooth in all channels, so that JPEG keeps it well, with a sharp coloured edge in the middle.
Image test_image(int width, int height, int channels) {
    Image image(width, height, channels);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c)
                image.at(x, y)[c] =
                    static_cast<std::uint8_t>((x < width / 2 ? 40 : 140) + c * 25 + (x + 2 * y) % 60 / 2);
    return image;
}
std::pair<int, double> difference(const Image& a, const Image& b) {
    int worst = 0;
    double sum = 0;
    for (std::size_t i = 0; i < a.pixels.size(); ++i) {
        const int d = std::abs(static_cast<int>(a.pixels[i]) - static_cast<int>(b.pixels[i]));
        worst = std::max(worst, d);
        sum += d;
    }
    return {worst, sum / static_cast<double>(a.pixels.size())};
}
/// The sampling factors of the first component in a baseline JPEG, such as 0x22.
int sampling_of(const std::vector<std::byte>& jpeg) {
    for (std::size_t i = 0; i + 11 < jpeg.size(); ++i)
        if (jpeg[i] == std::byte{0xFF} && jpeg[i + 1] == std::byte{0xC0}) return std::to_integer<int>(jpeg[i + 11]);
    return -1;
}

TEST(Encode, PngKeepsEveryPixel) {
    for (const auto& [w, h] : {std::pair{1, 1}, std::pair{7, 5}, std::pair{112, 112}}) {
        const Image image = test_image(w, h, 3), back = bf::decode_image(bf::encode_png(image), "png");
        EXPECT_EQ(back.width, w);
        EXPECT_EQ(back.height, h);
        EXPECT_EQ(back.pixels, image.pixels);
    }
    const Image grey = test_image(9, 4, 1), back = bf::decode_image(bf::encode_png(grey), "png");
    for (int i = 0; i < 36; ++i)
        EXPECT_EQ(back.pixels[static_cast<std::size_t>(3 * i)], grey.pixels[static_cast<std::size_t>(i)]);
}

TEST(Encode, JpegIsNearAndTheSameEachTime) {
    const Image image = test_image(112, 96, 3);
    const auto at95 = bf::encode_jpeg(image), at100 = bf::encode_jpeg(image, 100), at20 = bf::encode_jpeg(image, 20);
    EXPECT_EQ(at95, bf::encode_jpeg(image, 95));
    EXPECT_EQ(sampling_of(at95), 0x22);
    EXPECT_EQ(sampling_of(at100), 0x11);
    EXPECT_LT(at20.size(), at95.size());
    const Image back95 = bf::decode_image(at95, "jpeg"), back100 = bf::decode_image(at100, "jpeg");
    ASSERT_EQ(back95.width, 112);
    ASSERT_EQ(back95.height, 96);
    EXPECT_LT(difference(back95, image).second, 2.0);
    EXPECT_LE(difference(back100, image).first, 3);
    const Image grey = test_image(16, 16, 1), grey_back = bf::decode_image(bf::encode_jpeg(grey, 100), "jpeg");
    for (std::size_t i = 0; i < 256; ++i) {
        EXPECT_NEAR(grey_back.pixels[3 * i], grey.pixels[i], 2);
        EXPECT_EQ(grey_back.pixels[3 * i], grey_back.pixels[3 * i + 2]);
    }
    EXPECT_THROW(bf::encode_jpeg(image, 0), bf::Error);
    EXPECT_THROW(bf::encode_jpeg(image, 101), bf::Error);
    EXPECT_THROW(bf::encode_jpeg(Image()), bf::Error);
    EXPECT_THROW(bf::encode_png(Image(4, 4, 2)), bf::Error);
}

TEST(Encode, FilesByTheirEnding) {
    const fs::path root = fs::temp_directory_path() / ("bf_encode_" + std::to_string(::getpid()));
    fs::create_directories(root);
    const Image image = test_image(10, 6, 3), grey = test_image(10, 6, 1);
    for (const char* name : {"a.png", "a.PPM"}) {
        bf::write_image(root / name, image);
        EXPECT_EQ(bf::read_image(root / name).pixels, image.pixels) << name;
    }
    bf::write_image(root / "a.jpeg", image, 100);
    EXPECT_LE(difference(bf::read_image(root / "a.jpeg"), image).first, 6);
    bf::write_image(root / "a.pgm", grey);
    EXPECT_EQ(bf::read_image(root / "a.pgm").at(3, 2)[1], grey.at(3, 2)[0]);
    try {
        bf::write_image(root / "a.bmp", image);
        ADD_FAILURE() << "a.bmp was written";
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::usage);
        EXPECT_NE(std::string(e.what()).find("got \".bmp\", want .jpg"), std::string::npos) << e.what();
    }
    EXPECT_THROW(bf::write_image(root / "b.pgm", image), bf::Error);
    EXPECT_THROW(bf::write_image(root / "nowhere" / "a.png", image), bf::Error);
    EXPECT_EQ(std::distance(fs::directory_iterator(root), {}), 4);  // and no temporary file is left
    fs::remove_all(root);
}

}  // namespace

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "bf/base/random.hpp"
#include "bf/data/decode.hpp"
#include "bf/data/landmarks.hpp"
#include "bf/io/npy.hpp"
#include "golden.hpp"

namespace {

namespace fs = std::filesystem;
using bf::Affine;
using bf::Image;
using bf::Landmarks;

fs::path shared_alignment() {
    const char* variable = std::getenv("BF_SHARED");
    return fs::path(variable ? variable : BF_SHARED_DIR) / "data/alignment";
}
Landmarks points_of(const std::vector<double>& v) {
    Landmarks p;
    for (std::size_t i = 0; i < 5; ++i) p[i] = {v[2 * i], v[2 * i + 1]};
    return p;
}
struct Difference {
    int worst = 0;
    std::int64_t differing = 0;
    double mean = 0;
};
Difference difference(const std::uint8_t* a, const std::uint8_t* b, std::size_t count) {
    Difference d;
    for (std::size_t i = 0; i < count; ++i) {
        const int by = std::abs(static_cast<int>(a[i]) - static_cast<int>(b[i]));
        d.worst = std::max(d.worst, by);
        d.differing += by != 0;
        d.mean += by / static_cast<double>(count);
    }
    return d;
}

TEST(Align, TemplatesOfEachSize) {
    const Golden golden(BF_TEST_DIR "/data/align_golden.txt");
    for (const auto& [name, width, height] :
         {std::tuple{"112", 112, 112}, std::tuple{"96", 96, 112}, std::tuple{"224", 224, 224},
          std::tuple{"128", 128, 128}, std::tuple{"256", 256, 256}}) {
        const Landmarks got = bf::face_template(width, height),
                        want = points_of(golden[std::string("template.") + name]);
        for (std::size_t i = 0; i < 5; ++i) {
            EXPECT_NEAR(got[i].x, want[i].x, 1e-12) << name;
            EXPECT_NEAR(got[i].y, want[i].y, 1e-12) << name;
        }
    }
    for (const auto& [width, height] :
         {std::pair{100, 100}, std::pair{0, 0}, std::pair{112, 128}, std::pair{112, 96}, std::pair{-112, -112}})
        EXPECT_THROW(bf::face_template(width, height), bf::Error) << width;
}

TEST(Align, SimilarityEqualsUmeyama) {
    const Golden golden(BF_TEST_DIR "/data/align_golden.txt");
    const int count = static_cast<int>(golden["similarity.count"][0]);
    ASSERT_EQ(count, 12);
    for (int i = 0; i < count; ++i) {
        const std::string name = "similarity." + std::to_string(i);
        const Affine m =
            bf::estimate_similarity(points_of(golden[name + ".landmarks"]), points_of(golden[name + ".target"]))
                .matrix();
        for (std::size_t k = 0; k < 6; ++k) EXPECT_NEAR(m[k], golden[name + ".matrix"][k], 1e-9) << name << " " << k;
    }
    const bf::Similarity s{0.6, -0.3, 7, 9};  // one that fits exactly is found again
    Landmarks from = bf::face_template(112, 112), to;
    for (std::size_t i = 0; i < 5; ++i) to[i] = s(from[i]);
    const bf::Similarity found = bf::estimate_similarity(from, to);
    EXPECT_NEAR(found.a, s.a, 1e-13);
    EXPECT_NEAR(found.b, s.b, 1e-13);
    EXPECT_NEAR(found.tx, s.tx, 1e-11);
    EXPECT_NEAR(found.ty, s.ty, 1e-11);
}

TEST(Align, LandmarksThatFitNothing) {
    const Landmarks target = bf::face_template(112, 112);
    const auto error_of = [&](const Landmarks& p) -> std::string {
        try {
            bf::estimate_similarity(p, target);
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data);
            return e.what();
        }
        return "(no error)";
    };
    Landmarks p;
    p.fill({123.4, 77.7});
    EXPECT_NE(error_of(p).find("all lie in one place"), std::string::npos) << error_of(p);
    p.fill({0, 0});
    EXPECT_NE(error_of(p).find("all lie in one place"), std::string::npos);
    p = target;
    p[2].y = std::numeric_limits<double>::quiet_NaN();
    EXPECT_NE(error_of(p).find("not finite"), std::string::npos);
    p[2].y = std::numeric_limits<double>::infinity();
    EXPECT_NE(error_of(p).find("not finite"), std::string::npos);
    p = target;
    p[2].y = 1e200;
    EXPECT_NE(error_of(p).find("not finite"), std::string::npos);
    p.fill({3, 4});
    p[4] = {3, 5};  // two places are enough
    EXPECT_EQ(error_of(p), "(no error)");
    // points and their mirror image: no rotation is better than another
    const Landmarks square{{{1, 0}, {0, 1}, {-1, 0}, {0, -1}, {0, 0}}},
        mirrored{{{1, 0}, {0, -1}, {-1, 0}, {0, 1}, {0, 0}}};
    EXPECT_THROW(bf::estimate_similarity(square, mirrored), bf::Error);
}

TEST(Align, FivePointsOfSixtyEight) {
    std::vector<bf::Point> all(68);
    for (std::size_t i = 0; i < 68; ++i) all[i] = {static_cast<double>(i), static_cast<double>(1000 + i * i)};
    const Landmarks p = bf::five_of_68(all);
    EXPECT_EQ(p[0].x, 37.5);
    EXPECT_EQ(p[0].y, 1000 + (36 * 36 + 39 * 39) / 2.0);
    EXPECT_EQ(p[1].x, 43.5);
    EXPECT_EQ(p[2].x, 30);
    EXPECT_EQ(p[3].x, 48);
    EXPECT_EQ(p[4].x, 54);
    all.pop_back();
    EXPECT_THROW(bf::five_of_68(all), bf::Error);
}

std::vector<bf::FaceLandmarks> read_text(const std::string& text) {
    std::vector<bf::FaceLandmarks> all;
    bf::read_landmarks(bf::MemorySource(std::as_bytes(std::span(text)), "list"),
                       [&](const bf::FaceLandmarks& f) { all.push_back(f); });
    return all;
}

TEST(Align, ListsOfLandmarks) {
    const auto all = read_text(
        "image,x1,y1\n"
        "a/1.jpg 1 2 3 4 5 6 7 8 9 10\n"
        "\n# comment\r\n"
        "1.jpg 1.5 -2 3e1 4 5 6 7 8 9 10 0.875\r\n"
        "with blank.jpg\t1\t2 3,4\t5 6 7 8 9 10\t\n"
        "c.jpg, 1, 2, 3, 4, 5, 6, 7, 8, 9, nan");
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(all[0].file, "a/1.jpg");
    EXPECT_EQ(all[0].points[4].y, 10);
    EXPECT_EQ(all[0].score, 1);
    EXPECT_EQ(all[1].points[0].y, -2);
    EXPECT_EQ(all[1].points[1].x, 30);
    EXPECT_EQ(all[1].score, 0.875);
    EXPECT_EQ(all[1].line, 5u);
    EXPECT_EQ(all[2].file, "with blank.jpg");
    EXPECT_EQ(all[2].points[1].y, 4);
    EXPECT_EQ(all[3].file, "c.jpg");
    EXPECT_TRUE(std::isnan(all[3].points[4].y));
    // lines longer than what is read at a time are put together, but not for ever
    std::string many;
    for (int i = 0; i < 5000; ++i)
        many += "folder/image" + std::to_string(i) + ".jpg 1 2 3 4 5 6 7 8 9 " + std::to_string(i) + "\n";
    const auto long_list = read_text(many);
    ASSERT_EQ(long_list.size(), 5000u);
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(long_list[static_cast<std::size_t>(i)].points[4].y, i);
    for (const auto& [text, error] :
         {std::pair{std::string(), "names no image"}, std::pair{std::string("one line\n"), "names no image"},
          std::pair{std::string("a 1 2 3 4 5 6 7 8 9 10\nb 1 2 3 4 5 6 7 8 9\n"),
                    "list:2: is no line of landmarks; got `b 1 2 3 4 5 6 7 8 9`, want `file x1"},
          std::pair{std::string("a 1 2 3 4 5 6 7 8 9 10\nb 1 2 3 4 5 6 7 8 9 10 11 12\n"), "list:2"},
          std::pair{std::string("a 1 2 3 4 5 6 7 8 9 10\nb 1 2 3 4 5 6 7 8 9 1e999\n"), "list:2"},
          std::pair{std::string("a 1 2 3 4 5 6 7 8 9 10\nb 1 2 3 4 5 6 7 8 9 10x\n"), "list:2"},
          std::pair{std::string("a 1 2 3 4 5 6 7 8 9 10\n,1,2,3,4,5,6,7,8,9,10\n"), "list:2"},
          std::pair{"a 1 2 3 4 5 6 7 8 9 10\nb" +
                        [] {
                            std::string s;
                            for (int i = 0; i < 138; ++i) s += " 1";
                            return s;
                        }(),
                    "list:2"},
          std::pair{"x 1 2 3 4 5 6 7 8 9 10\n" + std::string(200000, '7'),
                    "list:2: line is too long; want at most 65536"}})
        try {
            read_text(text);
            ADD_FAILURE() << text.substr(0, 60);
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data);
            EXPECT_NE(std::string(e.what()).find(error), std::string::npos) << e.what();
        }
    // changed bytes: values or a data Error, nothing else
    const std::string good = "a/1.jpg 1 2 3 4 5 6 7 8 9 10\nb.jpg\t1\t2\t3\t4\t5\t6\t7\t8\t9\t10\t0.5\n";
    bf::Rng rng(1, bf::Stream::test, 3);
    for (int i = 0; i < 2000; ++i) {
        std::string text = good;
        for (int k = 0; k < 3; ++k) text[rng.below(text.size())] = static_cast<char>(rng.below(256));
        try {
            EXPECT_LE(read_text(text).size(), 5u);
        } catch (const bf::Error& e) {
            ASSERT_EQ(e.code(), bf::ErrorCode::data) << e.what();
        }
    }
}

TEST(Align, WarpsAsOpenCvToTheBit) {
    const Golden golden(BF_TEST_DIR "/data/align_golden.txt");
    const bf::Tensor crops = bf::load_npy(BF_TEST_DIR "/data/align_golden.npy");
    ASSERT_EQ(crops.shape(), (bf::Shape{8, 48, 48, 3}));
    Image image(61, 53);
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width; ++x)
            for (int c = 0; c < 3; ++c)
                image.at(x, y)[c] = static_cast<std::uint8_t>((x * x * 3 + y * 7 + x * y * 5 + c * 91) % 256);
    for (int i = 0; i < 8; ++i) {
        Affine m;
        std::copy_n(golden["warp.matrices"].begin() + 6 * i, 6, m.begin());
        const std::uint8_t* want = crops.data<std::uint8_t>() + i * 48 * 48 * 3;
        const Image got = bf::warp(image, m, 48, 48, bf::WarpMode::opencv), exact = bf::warp(image, m, 48, 48);
        EXPECT_EQ(difference(got.pixels.data(), want, got.pixels.size()).differing, 0) << "matrix " << i;
        // 1/64 pixel aside at most in x and in y: at most 255/64 levels each
        EXPECT_LE(difference(exact.pixels.data(), want, exact.pixels.size()).worst, 9) << "matrix " << i;
        Image grey(61, 53, 1);
        for (int k = 0; k < 61 * 53; ++k)
            grey.pixels[static_cast<std::size_t>(k)] = image.pixels[static_cast<std::size_t>(3 * k + 1)];
        for (const bf::WarpMode mode : {bf::WarpMode::exact, bf::WarpMode::opencv}) {
            const Image one = bf::warp(grey, m, 48, 48, mode), three = bf::warp(image, m, 48, 48, mode);
            for (std::size_t k = 0; k < one.pixels.size(); ++k) ASSERT_EQ(one.pixels[k], three.pixels[3 * k + 1]);
        }
    }
}

TEST(Align, ExactWarpIsBilinearWithABlackBorder) {
    Image image(4, 3);
    for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(7 * i + 3);
    // whole shifts move pixels; outside is black
    const Image shifted = bf::warp(image, {1, 0, 2, 0, 1, -1}, 7, 5);
    for (int y = 0; y < 5; ++y)
        for (int x = 0; x < 7; ++x) {
            const bool inside = x >= 2 && x < 6 && y + 1 < 3;
            EXPECT_EQ(shifted.at(x, y)[1], inside ? image.at(x - 2, y + 1)[1] : 0) << x << ' ' << y;
        }
    // weights in between: (x, y) = (1.25, 0.5)
    const Image between = bf::warp(image, {1, 0, -1.25, 0, 1, -0.5}, 1, 1);
    for (int c = 0; c < 3; ++c) {
        const double upper = 0.75 * image.at(1, 0)[c] + 0.25 * image.at(2, 0)[c],
                     lower = 0.75 * image.at(1, 1)[c] + 0.25 * image.at(2, 1)[c];
        EXPECT_EQ(between.at(0, 0)[c], static_cast<int>((upper + lower) / 2 + 0.5));
    }
    // half of an edge pixel's weight lies outside
    EXPECT_EQ(bf::warp(image, {1, 0, 0.5, 0, 1, 0}, 1, 1).at(0, 0)[0], static_cast<int>(image.at(0, 0)[0] / 2.0 + 0.5));
    for (const bf::WarpMode mode : {bf::WarpMode::exact, bf::WarpMode::opencv}) {
        for (const Affine& far : {Affine{1e-300, 0, 0, 0, 1e300, 0}, Affine{1e-9, 0, 1e12, 0, 1e-9, -1e12}})
            EXPECT_EQ(bf::warp(image, far, 3, 3, mode).pixels.size(), 27u);  // numbers no pixel could have: no crash
        EXPECT_THROW(bf::warp(image, {1, 2, 0, 2, 4, 0}, 3, 3, mode), bf::Error);
        EXPECT_THROW(bf::warp(image, {std::nan(""), 0, 0, 0, 1, 0}, 3, 3, mode), bf::Error);
        EXPECT_THROW(bf::warp(Image(), {1, 0, 0, 0, 1, 0}, 3, 3, mode), bf::Error);
    }
}

TEST(Align, RealFacesAgainstCropsOfOpenCv) {
    const fs::path root = shared_alignment();
    if (!fs::exists(root)) GTEST_SKIP() << "alignment set not found; set BF_SHARED";
    std::ifstream list(root / "landmarks5.txt"), matrices(root / "matrices.txt");
    std::string name, again;
    int images = 0;
    Difference worst_exact, worst_opencv;
    while (list >> name) {
        std::vector<double> numbers(10);
        for (double& v : numbers) list >> v;
        ASSERT_TRUE(matrices >> again);
        ASSERT_EQ(name, again);
        const Affine m = bf::estimate_similarity(points_of(numbers), bf::face_template(112, 112)).matrix();
        for (std::size_t k = 0; k < 6; ++k) {
            double want = 0;
            matrices >> want;
            EXPECT_NEAR(m[k], want, 5.1e-9) << name << " " << k;  // eight digits are printed
        }
        const Image image = bf::read_image(root / "images250" / name),
                    want = bf::read_image((root / "expected112" / name).replace_extension(".png"));
        for (const auto& [mode, worst] :
             {std::pair{bf::WarpMode::exact, &worst_exact}, std::pair{bf::WarpMode::opencv, &worst_opencv}}) {
            const Image got = bf::align_face(image, points_of(numbers), 112, 112, mode);
            const Difference d = difference(got.pixels.data(), want.pixels.data(), want.pixels.size());
            worst->worst = std::max(worst->worst, d.worst);
            worst->mean += d.mean / 39;
            worst->differing += d.differing;
        }
        ++images;
    }
    EXPECT_EQ(images, 39);
    // measured with libjpeg-turbo: exact at most 4 levels, mean 0.06; opencv no pixel differs. Another decoder adds
    // 1-2.
    EXPECT_LE(worst_exact.worst, 6);
    EXPECT_LE(worst_exact.mean, 0.1);
    EXPECT_LE(worst_opencv.worst, 2);
    EXPECT_LE(worst_opencv.mean, 0.02);
}

}  // namespace

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "bf/data/file_dataset.hpp"
#include "bf/data/loader.hpp"
#include "bf/data/omniglot.hpp"
#include "bf/data/pairs.hpp"
#include "bf/data/synthetic.hpp"
#include "bf/eval/verification.hpp"

namespace {

namespace fs = std::filesystem;
using bf::Image;
using bf::Tensor;

fs::path shared_data() {
    const char* variable = std::getenv("BF_SHARED");
    return fs::path(variable ? variable : BF_SHARED_DIR) / "data";
}

class Folder : public ::testing::Test {
  protected:
    void SetUp() override {
        root = fs::temp_directory_path() / ("bf_data_" + std::to_string(::getpid()) + "_" +
                                            ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(root);
        fs::create_directories(root);
    }
    void TearDown() override { fs::remove_all(root); }
    /// A PPM whose first pixel tells which one it is.
    void write_ppm(const fs::path& path, int mark, int side = 20) const {
        fs::create_directories(path.parent_path());
        std::ofstream out(path, std::ios::binary);
        out << "P6\n# made by a test\n" << side << ' ' << side << "\n255\n";
        for (int i = 0; i < side * side * 3; ++i) out << static_cast<char>((mark + i * i) % 251);
    }
    void write_text(const fs::path& path, const std::string& text) const {
        std::ofstream(path, std::ios::binary) << text;
    }
    std::string error_of(const std::function<void()>& f) const {
        try {
            f();
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data) << e.what();
            return e.what();
        }
        return "(no error)";
    }
    fs::path root;
};

using Decode = Folder;
using Datasets = Folder;
using Pairs = Folder;
using Loading = Folder;

TEST_F(Decode, DamagedFilesSayWhatIsWrong) {
    write_ppm(root / "good.ppm", 5);
    EXPECT_EQ(bf::read_image(root / "good.ppm").at(0, 0)[0], 5);
    write_text(root / "empty.jpg", "");
    write_text(root / "text.jpg", "hello there");
    write_text(root / "cut.jpg", std::string("\xff\xd8\xff\xe0\0\x10JFIF", 10));
    write_text(root / "cut.png", std::string("\x89PNG\r\n\x1a\n", 8));
    write_text(root / "cut.ppm", "P6\n20 20\n255\nabc");
    write_text(root / "huge.ppm", "P6\n99999 99999\n255\n");
    write_text(root / "depth.pgm", "P5\n2 2\n65535\n12345678");
    EXPECT_NE(error_of([&] { bf::read_image(root / "empty.jpg"); }).find("empty.jpg: the file is empty"),
              std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "text.jpg"); }).find("got first bytes 68 65 6c 6c"),
              std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "cut.jpg"); }).find("damaged JPEG"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "cut.png"); }).find("damaged image"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "cut.ppm"); }).find("file ends early"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "huge.ppm"); }).find("99999"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "depth.pgm"); }).find("65535"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root / "none.jpg"); }).find("cannot be read"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_image(root); }).find("cannot be read"), std::string::npos);
}

/// A grey 8 x 8 progressive JPEG: `scans` times its one DC coefficient, and `between` before a segment.
std::string progressive_jpeg(int scans, const std::string& between = "") {
    const auto bytes = [](std::initializer_list<int> all) {
        std::string text;
        for (const int b : all) text += static_cast<char>(b);
        return text;
    };
    std::string file = bytes({0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0}) + std::string(64, 1) + between;
    file += bytes({0xFF, 0xC2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0});
    file += bytes({0xFF, 0xC4, 0, 20, 0, 1}) + std::string(16, 0);
    for (int i = 0; i < scans; ++i) file += bytes({0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0, 0x7F});
    return file + bytes({0xFF, 0xD9});
}

TEST_F(Decode, HarmlessOdditiesOfAJpegPassAndManyScansDoNot) {
    write_text(root / "good.jpg", progressive_jpeg(3));
    EXPECT_EQ(bf::read_image(root / "good.jpg").at(0, 0)[0], 128);
    write_text(root / "odd.jpg", progressive_jpeg(3, std::string(5, 0)));
    EXPECT_EQ(bf::read_image(root / "odd.jpg").at(7, 7)[2], 128);
    write_text(root / "scans.jpg", progressive_jpeg(101));
    EXPECT_NE(error_of([&] { bf::read_image(root / "scans.jpg"); }).find("more than 100 scans"), std::string::npos);
}

TEST_F(Decode, RealJpegsAndACutOne) {
    const fs::path lfw = shared_data() / "lfw/images/AJ_Cook/AJ_Cook_0001.jpg";
    if (!fs::exists(lfw)) GTEST_SKIP() << "LFW crops not found; set BF_SHARED";
    const Image image = bf::read_image(lfw);
    EXPECT_EQ(image.width, 112);
    EXPECT_EQ(image.height, 112);
    std::ifstream in(lfw, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    for (const std::size_t part : {bytes.size() / 4, bytes.size() / 2, bytes.size() - 10}) {
        write_text(root / "cut.jpg", bytes.substr(0, part));
        EXPECT_NE(error_of([&] { bf::read_image(root / "cut.jpg"); }).find("damaged JPEG"), std::string::npos) << part;
    }
}

TEST_F(Datasets, FolderInSortedOrder) {
    for (const char* name : {"zoe/1.ppm", "zoe/0.ppm", "ann/a.ppm", "one/only.ppm"}) write_ppm(root / name, name[4]);
    write_text(root / "ann/notes.txt", "not an image");
    const bf::FileDataset all(bf::list_folder(root));
    EXPECT_EQ(all.size(), 4);
    EXPECT_EQ(all.identities(), 3);
    EXPECT_EQ(all.label(0), 0);
    EXPECT_EQ(all.label(3), 2);
    EXPECT_NE(all.name(2).find("zoe/0.ppm"), std::string::npos);
    EXPECT_EQ(bf::FileDataset(bf::list_folder(root, {.min_images = 2})).identities(), 1);
    const auto second = bf::list_folder(root, {.only_folds = {2}, .identity_folds = 2});  // ann 1, one 2, zoe 1
    ASSERT_EQ(second.size(), 1u);
    EXPECT_EQ(second[0].path, root / "one/only.ppm");
    EXPECT_EQ(bf::FileDataset(bf::list_folder(root, {.exclude_folds = {2}, .identity_folds = 2})).identities(), 2);
    EXPECT_NE(error_of([&] { bf::list_folder(root, {.only_folds = {2}}); }).find("identity_folds"), std::string::npos);
    EXPECT_NE(
        error_of([&] { bf::list_folder(root, {.only_folds = {5}, .identity_folds = 9}); }).find("in the folds chosen"),
        std::string::npos);
    EXPECT_NE(error_of([&] { bf::list_folder(root / "ann"); }).find("no identity"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::list_folder(root / "nobody"); }).find("is not a folder"), std::string::npos);
}

TEST_F(Datasets, ListWithFoldsAndFilter) {
    for (const char* name : {"a.ppm", "b.ppm", "c.ppm", "d.ppm"}) write_ppm(root / name, 1);
    write_text(root / "list.tsv", "path\tlabel\tfold\na.ppm\t7\t1\nb.ppm\t7\t2\nc.ppm\t3\t1\nd.ppm\t9\t3\n");
    EXPECT_EQ(bf::read_list(root / "list.tsv", root).size(), 4u);
    const bf::FileDataset some(bf::read_list(root / "list.tsv", root, {.exclude_folds = {3}}));
    EXPECT_EQ(some.identities(), 2);
    EXPECT_EQ(some.label(0), 1);
    EXPECT_EQ(some.label(2), 0);
    EXPECT_EQ(bf::read_list(root / "list.tsv", root, {.only_folds = {1}, .min_images = 1}).size(), 2u);
    EXPECT_EQ(bf::read_list(root / "list.tsv", root, {.min_images = 2}).size(), 2u);
    write_text(root / "plain.tsv", "a.ppm\t7\nb.ppm\t3\n");
    EXPECT_EQ(bf::read_list(root / "plain.tsv", root).size(), 2u);
    EXPECT_NE(error_of([&] { bf::read_list(root / "plain.tsv", root, {.exclude_folds = {9}}); }).find("has no fold"),
              std::string::npos);
    EXPECT_THROW(bf::FileDataset(bf::read_list(root / "plain.tsv", root)).image(2), bf::Error);
    write_text(root / "bad.tsv", "a.ppm\t1\nb.ppm one\n");
    EXPECT_NE(error_of([&] { bf::read_list(root / "bad.tsv", root); }).find("bad.tsv:2"), std::string::npos);
    EXPECT_NE(error_of([&] { bf::read_list(root / "list.tsv", root / "elsewhere"); }).find("missing"),
              std::string::npos);
}

TEST_F(Pairs, LfwProtocolFile) {
    for (const char* name : {"A_B/A_B_0001.jpg", "A_B/A_B_0012.jpg", "C/C_0001.jpg", "D/D_0003.jpg"})
        write_ppm(root / name, 1);
    write_text(root / "pairs.txt", "2\t1\nA_B\t1\t12\nA_B\t1\tC\t1\nA_B\t12\t1\nC\t1\tD\t3\n");
    const auto p = bf::read_lfw_pairs(root / "pairs.txt", root);
    EXPECT_EQ(p.paths.size(), 4u);
    EXPECT_EQ(p.folds, 2);
    EXPECT_EQ(p.same, (std::vector<char>{1, 0, 1, 0}));
    EXPECT_EQ(p.fold, (std::vector<int>{1, 1, 2, 2}));
    EXPECT_EQ(bf::read_lfw_pairs(root / "pairs.txt", root, 2).pairs.size(), 2u);
    fs::remove(root / "D/D_0003.jpg");
    EXPECT_NE(error_of([&] { bf::read_lfw_pairs(root / "pairs.txt", root); }).find("1 of 4 images are missing"),
              std::string::npos);
    write_text(root / "short.txt", "2\t1\nA_B\t1\t12\n");
    EXPECT_NE(error_of([&] { bf::read_lfw_pairs(root / "short.txt", root); }).find("short.txt:3"), std::string::npos);
    write_text(root / "list.txt", "A_B/A_B_0001.jpg C/C_0001.jpg 0\nA_B/A_B_0001.jpg A_B/A_B_0012.jpg 1\n");
    EXPECT_EQ(bf::read_pair_list(root / "list.txt", root).paths.size(), 3u);
    write_text(root / "crlf.txt", "A_B/A_B_0001.jpg C/C_0001.jpg 0\r\n\r\n");
    EXPECT_EQ(bf::read_pair_list(root / "crlf.txt", root).pairs.size(), 1u);
    write_text(root / "long.txt", "1\t1\nA_B\t1\t12\nA_B\t1\tC\t1\n\r\nC\t1\t1\n");
    EXPECT_NE(error_of([&] { bf::read_lfw_pairs(root / "long.txt", root); }).find("long.txt:5"), std::string::npos);
    write_text(root / "list.txt", "A_B/A_B_0001.jpg C/C_0001.jpg 2\n");
    EXPECT_NE(error_of([&] { bf::read_pair_list(root / "list.txt", root); }).find("list.txt:1"), std::string::npos);
}

TEST(RealLfw, FoldNineHasSixHundredPairs) {
    const fs::path lfw = shared_data() / "lfw";
    if (!fs::exists(lfw / "protocol/pairs.txt")) GTEST_SKIP() << "LFW not found; set BF_SHARED";
    EXPECT_EQ(bf::read_lfw_pairs(lfw / "protocol/pairs.txt", lfw / "images").pairs.size(), 5400u);
    EXPECT_EQ(bf::read_lfw_pairs(lfw / "protocol/pairs.txt", lfw / "images", 9).pairs.size(), 600u);
}

TEST_F(Datasets, DrawingsOfCharactersInStripsAndInFolders) {
    const auto write_strip = [&](const fs::path& path, int drawings, int mark) {
        fs::create_directories(path.parent_path());
        std::ofstream out(path, std::ios::binary);
        out << "P5\n" << drawings * 4 << " 4\n255\n";
        for (int y = 0; y < 4; ++y)
            for (int x = 0; x < drawings * 4; ++x) out << static_cast<char>(mark + 10 * (x / 4) + x % 4 + y);
    };
    write_strip(root / "Greek/character01.pgm", 5, 100);
    write_strip(root / "Greek/character02.pgm", 5, 20);
    write_ppm(root / "Latin/a/1.ppm", 7);
    write_ppm(root / "Latin/a/2.ppm", 8);
    write_ppm(root / "Latin/b/1.ppm", 9);
    const bf::Omniglot all(root);
    EXPECT_EQ(all.size(), 13);
    EXPECT_EQ(all.identities(), 4);
    EXPECT_EQ(all.alphabets(), (std::vector<std::string>{"Greek", "Latin"}));
    EXPECT_EQ(all.label(9), 1);
    EXPECT_EQ(all.label(12), 3);
    EXPECT_EQ(all.alphabet(1), 0);
    EXPECT_EQ(all.alphabet(3), 1);
    EXPECT_NE(all.name(7).find("character02.pgm#2"), std::string::npos);
    EXPECT_NE(all.name(12).find("b/1.ppm"), std::string::npos);
    EXPECT_EQ(all.name(12).find('#'), std::string::npos);
    const Image third = all.image(7);
    EXPECT_EQ(third.width, 4);
    EXPECT_EQ(third.at(3, 2)[1], 20 + 20 + 3 + 2);
    EXPECT_EQ(bf::Omniglot(root, {.only_alphabets = {"Latin"}}).size(), 3);
    EXPECT_EQ(bf::Omniglot(root, {.exclude_alphabets = {"Latin"}}).identities(), 2);
    EXPECT_NE(error_of([&] { bf::Omniglot(root, {.only_alphabets = {"Tagalog"}}); }).find("no alphabet Tagalog"),
              std::string::npos);
    EXPECT_NE(error_of([&] {
                  bf::Omniglot(root, {.exclude_alphabets = {"Latin", "Greek"}});
              }).find("has no drawing"),
              std::string::npos);
    EXPECT_NE(error_of([&] {
                  bf::Omniglot(root, {.only_alphabets = {"Greek"}, .max_bytes = 150});
              }).find("beyond the 150 bytes"),
              std::string::npos);
    EXPECT_NE(error_of([&] { bf::Omniglot(root / "none"); }).find("is not a folder"), std::string::npos);
    EXPECT_THROW(all.image(13), bf::Error);
    write_text(root / "Greek/character03.pgm", "P5\n10 4\n255\n" + std::string(40, 'a'));
    EXPECT_NE(error_of([&] { bf::Omniglot{root}; }).find("no row of square drawings; got 10 x 4"), std::string::npos);
    write_text(root / "Greek/character03.pgm", "P5\n12 4\n255\n");
    EXPECT_NE(error_of([&] { bf::Omniglot{root}; }).find("file ends early"), std::string::npos);
}

TEST(RealOmniglot, AllDrawingsOfTheSmallSets) {
    const fs::path omniglot = shared_data() / "omniglot";
    if (!fs::exists(omniglot)) GTEST_SKIP() << "Omniglot not found; set BF_SHARED";
    const bf::Omniglot all(omniglot);
    EXPECT_EQ(all.size(), 3660);
    EXPECT_EQ(all.identities(), 183);
    EXPECT_EQ(all.alphabets().size(), 6u);
    EXPECT_EQ(all.image(3659).width, 56);
    // ORL's folders need nothing of their own
    const fs::path orl = shared_data() / "orl";
    if (!fs::exists(orl)) GTEST_SKIP() << "ORL not found; set BF_SHARED";
    EXPECT_EQ(bf::FileDataset(bf::list_folder(orl)).size(), 320);
}

TEST_F(Datasets, ASizeThatIsWantedIsKeptApartFromOthers) {
    fs::create_directories(root / "who");
    fs::copy_file(fs::path(BF_TEST_DIR) / "data/rgb.jpg", root / "who/1.jpg");
    const bf::FileDataset data(bf::list_folder(root), 1 << 20), bare(bf::list_folder(root));
    for (int round = 0; round < 2; ++round)
        for (const int wanted : {12, 0, 24, 6}) {
            Image kept, fresh;
            data.load(0, wanted, kept);
            bare.load(0, wanted, fresh);
            EXPECT_EQ(kept.width, wanted == 12 ? 16 : wanted == 6 ? 8 : 32);
            EXPECT_EQ(kept.pixels, fresh.pixels);
        }
}

void expect_same(const bf::Batch& a, const bf::Batch& b) {
    ASSERT_EQ(std::memcmp(a.images.raw(), b.images.raw(), a.images.bytes()), 0);
    ASSERT_EQ(std::memcmp(a.indices.raw(), b.indices.raw(), a.indices.bytes()), 0);
    ASSERT_EQ(a.epoch, b.epoch);
}
const bf::Augment everything{.flip = true,
                             .crop_pad = 3,
                             .brightness = 0.2f,
                             .contrast = 0.2f,
                             .saturation = 0.2f,
                             .erase = 0.5f,
                             .low_resolution = 0.3f};

TEST(Loader, SameBatchesForAnyNumberOfWorkers) {
    const bf::SyntheticFaces faces({.identities = 6, .images_per_identity = 5, .size = 24});
    bf::Loader one(faces, {.batch_size = 7, .image_size = 24, .workers = 1, .prefetch = 1, .augment = everything}),
        two(faces, {.batch_size = 7, .image_size = 24, .workers = 2, .augment = everything}),
        five(faces, {.batch_size = 7, .image_size = 24, .workers = 5, .prefetch = 9, .augment = everything});
    EXPECT_EQ(one.batches_per_epoch(), 4u);
    for (int i = 0; i < 10; ++i) {
        const bf::Batch a = one.next();
        expect_same(a, two.next());
        expect_same(a, five.next());
        EXPECT_EQ(a.last_of_epoch, i % 4 == 3);
    }
}

TEST(Loader, SeekContinuesWhereAnotherStood) {
    const bf::SyntheticFaces faces({.identities = 6, .images_per_identity = 5, .size = 24});
    const bf::LoaderOptions options{.batch_size = 7, .image_size = 24, .augment = everything};
    bf::Loader a(faces, options), b(faces, options);
    for (int i = 0; i < 6; ++i) a.next();
    b.next();
    b.seek(a.position());
    for (int i = 0; i < 5; ++i) expect_same(a.next(), b.next());
}

TEST(Loader, EachImageOnceAnEpochAndEpochsDiffer) {
    const bf::SyntheticFaces faces({.identities = 7, .images_per_identity = 4, .size = 16});
    bf::Loader loader(faces, {.batch_size = 4, .image_size = 16});
    std::vector<std::int64_t> first, second;
    for (int i = 0; i < 14; ++i) {
        const bf::Batch b = loader.next();
        for (const std::int64_t k : b.indices.span<std::int64_t>()) (i < 7 ? first : second).push_back(k);
        for (int k = 0; k < 4; ++k) EXPECT_EQ(b.labels.data<std::int64_t>()[k], b.indices.data<std::int64_t>()[k] / 4);
    }
    EXPECT_NE(first, second);
    std::sort(first.begin(), first.end());
    for (std::size_t i = 0; i < 28; ++i) EXPECT_EQ(first[i], static_cast<std::int64_t>(i));
    EXPECT_THROW(bf::Loader(faces, {.batch_size = 29}), bf::Error);
}

TEST_F(Loading, ADamagedImageIsNamedOrReplaced) {
    for (int i = 0; i < 20; ++i) write_ppm(root / ("p" + std::to_string(i / 4)) / (std::to_string(10 + i) + ".ppm"), i);
    write_text(root / "p0/10.ppm", "broken");
    const bf::FileDataset data(bf::list_folder(root));
    bf::Loader strict(data, {.batch_size = 20, .image_size = 16});
    EXPECT_NE(error_of([&] { strict.next(); }).find("p0/10.ppm"), std::string::npos);
    bf::Loader one(data, {.batch_size = 10, .image_size = 16, .workers = 1, .max_bad_share = 0.1}),
        three(data, {.batch_size = 10, .image_size = 16, .workers = 3, .max_bad_share = 0.1});
    for (int i = 0; i < 4; ++i) expect_same(one.next(), three.next());
    EXPECT_EQ(one.bad_images().size(), 1u);
    bf::Loader resumed(data, {.batch_size = 10, .image_size = 16, .max_bad_share = 0.1});
    resumed.count_bad_images({"a: broken", "b: broken"});  // the limit is reached before this part of the run
    EXPECT_NE(error_of([&] {
                  resumed.next();
                  resumed.next();
              }).find("3 unreadable images"),
              std::string::npos);
    write_text(root / "p1/14.ppm", "broken");
    write_text(root / "p2/18.ppm", "broken");
    bf::Loader over(data, {.batch_size = 20, .image_size = 16, .max_bad_share = 0.1});
    EXPECT_NE(error_of([&] { over.next(); }).find("unreadable images"), std::string::npos);
}

TEST(Transform, ResizeKeepsConstantsAndMeans) {
    Image flat(30, 20);
    std::fill(flat.pixels.begin(), flat.pixels.end(), std::uint8_t{77});
    for (const auto& [w, h] : {std::pair{15, 7}, std::pair{61, 40}, std::pair{1, 1}})
        for (const std::uint8_t v : bf::resize(flat, w, h).pixels) ASSERT_EQ(v, 77);
    Image stripes(64, 64);
    for (int y = 0; y < 64; ++y)
        for (int x = 0; x < 64; ++x) std::fill_n(stripes.at(x, y), 3, static_cast<std::uint8_t>(x % 2 ? 200 : 0));
    for (const std::uint8_t v : bf::resize(stripes, 16, 16).pixels) ASSERT_NEAR(v, 100, 15);  // fine stripes turn grey
    Image one(4, 2);
    one.at(0, 0)[1] = 9;
    bf::flip_horizontal(one);
    EXPECT_EQ(one.at(3, 0)[1], 9);
    EXPECT_EQ(bf::to_square(Image(40, 20), 10).width, 10);
}

TEST(Synthetic, AFunctionOfItsArgumentsAlone) {
    const bf::SyntheticFaces a({.identities = 5, .images_per_identity = 4, .size = 48}),
        b({.identities = 5, .images_per_identity = 4, .size = 48}),
        shifted({.identities = 3, .images_per_identity = 4, .size = 48, .first_identity = 2}),
        other({.identities = 5, .images_per_identity = 4, .size = 48, .seed = 2});
    std::vector<Image> images(20);
    std::thread half([&] {
        for (int i = 0; i < 10; ++i) images[static_cast<std::size_t>(i)] = a.image(i);
    });
    for (int i = 10; i < 20; ++i) images[static_cast<std::size_t>(i)] = a.image(i);
    half.join();
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(images[static_cast<std::size_t>(i)].pixels, b.image(i).pixels);
        EXPECT_NE(images[static_cast<std::size_t>(i)].pixels, other.image(i).pixels);
    }
    EXPECT_EQ(shifted.image(0).pixels, a.image(8).pixels);  // identity 2 whichever range names it
    EXPECT_NE(a.image(0).pixels, a.image(1).pixels);
    for (const int size : {16, 112})
        EXPECT_EQ(bf::SyntheticFaces({.identities = 1, .size = size}).image(0).width, size);
    EXPECT_THROW(a.image(20), bf::Error);
    EXPECT_THROW(bf::SyntheticFaces({.size = 8}), bf::Error);
}

TEST(Synthetic, PixelsAloneDoNotTellPeopleApart) {
    const bf::SyntheticFaces faces({.identities = 60, .images_per_identity = 8, .size = 32});
    const auto pairs = faces.verification_pairs(1000, 1);
    Tensor pixels = Tensor::empty({faces.size(), 32 * 32});
    for (std::int64_t i = 0; i < faces.size(); ++i) {
        const Image image = faces.image(i);
        float mean = 0;
        for (int k = 0; k < 1024; ++k) mean += static_cast<float>(image.pixels[static_cast<std::size_t>(3 * k)]) / 1024;
        for (int k = 0; k < 1024; ++k)
            pixels.data<float>()[i * 1024 + k] =
                static_cast<float>(image.pixels[static_cast<std::size_t>(3 * k)]) - mean;
    }
    const auto r = bf::verify_folds(bf::pair_distances(pixels, pairs.pairs), pairs.same, 10);
    EXPECT_GT(r.mean, 0.50);
    EXPECT_LT(r.mean, 0.75);
}

}  // namespace

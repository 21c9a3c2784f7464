#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "bf/data/face_pairs.hpp"
#include "bf/data/lfw_people.hpp"
#include "bf/data/omniglot.hpp"
#include "bf/data/retrieval_lists.hpp"

namespace {

namespace fs = std::filesystem;
using Places = std::vector<std::int64_t>;

class Lists : public ::testing::Test {
  protected:
    void SetUp() override {
        root = fs::temp_directory_path() / ("bf_lists_" + std::to_string(::getpid()) + "_" +
                                            ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(root);
        fs::create_directories(root);
    }
    void TearDown() override { fs::remove_all(root); }
    fs::path write(const fs::path& path, const std::string& text) const {
        fs::create_directories((root / path).parent_path());
        std::ofstream(root / path, std::ios::binary) << text;
        return root / path;
    }
    void touch(std::initializer_list<const char*> images) const {
        for (const char* image : images) write(image, "x");
    }
    fs::path root;
};

template <class F>
void expect_data_error(F&& f, const std::string& part) {
    try {
        f();
        FAIL() << "no error with " << part;
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::data) << e.what();
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
}

/// A list in memory.
struct Text {
    explicit Text(std::string t) : text(std::move(t)), source(std::as_bytes(std::span(text)), "list.txt") {}
    std::string text;
    bf::MemorySource source;
};

TEST(Lines, EndsMarksAndLimits) {
    const auto lines = [](const std::string& text, const bf::LineLimits& limits = {}) {
        const Text t(text);
        bf::LineReader in(t.source, limits);
        std::vector<std::string> out;
        for (std::string_view line; in.next(line);) out.emplace_back(line);
        EXPECT_EQ(in.number(), static_cast<std::int64_t>(out.size()));
        return out;
    };
    EXPECT_EQ(lines("\xEF\xBB\xBFone\r\n\ntwo"), (std::vector<std::string>{"one", "", "two"}));
    EXPECT_TRUE(lines("").empty());
    std::string many;  // lines across the window's end, of every length up to the limit
    std::vector<std::string> want;
    for (std::size_t i = 0; i < 200; ++i) {
        want.emplace_back((i * 997) % 4097, static_cast<char>('a' + i % 26));
        many += want.back() + "\n";
    }
    EXPECT_EQ(lines(many), want);
    expect_data_error([&] { lines("ok\n" + std::string(4097, 'x') + "\n"); }, "list.txt:2");
    expect_data_error([&] { lines("ok\nok\n" + std::string(300000, 'x')); }, "list.txt:3");
    expect_data_error([&] { lines(std::string("ok\nb\0c\n", 7)); }, "zero byte");
    expect_data_error([&] { lines("123456789", {.max_bytes = 8}); }, "too large for a list");
    EXPECT_EQ(bf::fields_of(" 1,  A b/0 ,,x", ','), (std::vector<std::string_view>{"1", "A b/0", "", "x"}));
    EXPECT_EQ(bf::fields_of(" a\t b  "), (std::vector<std::string_view>{"a", "b"}));
}

TEST_F(Lists, LfwViewOneAndPeople) {
    touch({"A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg", "C/C_0001.jpg", "C/C_0003.jpg", "D/D_0001.jpg"});
    const fs::path train = write("train.txt", "1\nA\t1\t2\nA\t1\tB\t1\n"),
                   test = write("test.txt", "1\nC\t1\t3\nC\t1\tD\t1\n");
    const auto p = bf::read_lfw_view1(train, test, root);
    EXPECT_EQ(p.fold, (std::vector<int>{1, 1, 2, 2}));
    EXPECT_EQ(p.subject, (Places{0, 0, 1, 2, 2, 3}));
    EXPECT_TRUE(p.notes.empty());
    write("test.txt", "1\nA\t1\t2\nC\t1\tD\t1\n");
    const auto shared = bf::read_lfw_view1(train, test, root);
    ASSERT_EQ(shared.notes.size(), 1u);
    EXPECT_NE(shared.notes[0].find("folds are not disjoint: 1 of 4 people"), std::string::npos) << shared.notes[0];
    write("test.txt", "1\nC\t1\t3\nC\t1\tD\n");
    expect_data_error([&] { bf::read_lfw_view1(train, test, root); }, "test.txt:3");

    const auto folds = bf::read_lfw_people(Text("2\n1\nA\t2\n2\nB\t1\nC\t3\n").source);
    ASSERT_EQ(folds.size(), 3u);
    EXPECT_EQ(folds[2].name, "C");
    EXPECT_EQ(folds[2].images, 3);
    EXPECT_EQ(folds[2].fold, 2);
    EXPECT_EQ(bf::read_lfw_people(Text("2\nA\t2\nB\t1\n").source).size(), 2u);
    expect_data_error([] { bf::read_lfw_people(Text("2\n1\nA\t2\n1\nA\t1\n").source); }, "A stands twice");
    expect_data_error([] { bf::read_lfw_people(Text("2\nA\t2\n").source); }, "list.txt:3");
    expect_data_error([] { bf::read_lfw_people(Text("1\nA\t2\nB\t1\n").source); }, "list.txt:3");
    expect_data_error([] { bf::read_lfw_people(Text("x\n").source); }, "list.txt:1");
}

TEST_F(Lists, CfpPairsOfBothProtocols) {
    touch({"Data/Images/001/frontal/01.jpg", "Data/Images/001/frontal/02.jpg", "Data/Images/002/frontal/01.jpg",
           "Data/Images/001/profile/01.jpg", "Data/Images/002/profile/01.jpg"});
    write("Protocol/Pair_list_F.txt",
          "1 ../Data/Images/001/frontal/01.jpg\n2 ../Data/Images/001/frontal/02.jpg\n"
          "3 ../Data/Images/002/frontal/01.jpg\n");
    write("Protocol/Pair_list_P.txt", "1 ../Data/Images/001/profile/01.jpg\n2 ../Data/Images/002/profile/01.jpg\n");
    for (const char* fold : {"01", "02"}) {
        write(fs::path("Protocol/Split/FP") / fold / "same.txt", "1,1\n");
        write(fs::path("Protocol/Split/FP") / fold / "diff.txt", "3,1\n");
        write(fs::path("Protocol/Split/FF") / fold / "same.txt", "1,2\n");
        write(fs::path("Protocol/Split/FF") / fold / "diff.txt", "1,3\n");
    }
    const auto fp = bf::read_cfp_pairs(root / "Protocol", root, bf::CfpProtocol::frontal_profile);
    EXPECT_EQ(fp.folds, 2);
    EXPECT_EQ(fp.same, (std::vector<char>{1, 0, 1, 0}));
    EXPECT_EQ(fp.paths[1], root / "Data/Images/001/profile/01.jpg");
    EXPECT_EQ(fp.subject, (Places{0, 0, 1}));
    EXPECT_EQ(fp.notes.size(), 1u);  // the same people in both folds
    const auto ff = bf::read_cfp_pairs(root / "Protocol", root, bf::CfpProtocol::frontal_frontal);
    EXPECT_EQ(ff.paths[1], root / "Data/Images/001/frontal/02.jpg");
    write("Protocol/Split/FP/02/diff.txt", "3,3\n");
    expect_data_error([&] { bf::read_cfp_pairs(root / "Protocol", root, bf::CfpProtocol::frontal_profile); },
                      "02/diff.txt:1");
    write("Protocol/Pair_list_P.txt", "1 ../Data/Images/001/profile/01.jpg\n3 ../x.jpg\n");
    expect_data_error([&] { bf::read_cfp_pairs(root / "Protocol", root, bf::CfpProtocol::frontal_profile); },
                      "Pair_list_P.txt:2");
    expect_data_error([&] { bf::read_cfp_pairs(root, root, bf::CfpProtocol::frontal_frontal); }, "cannot be read");
}

TEST_F(Lists, TwoLinesAPairAreDealtOutToFolds) {
    std::string list;
    for (int i = 0; i < 4; ++i) {
        const std::string a = "P_" + std::to_string(i) + "_0001.jpg", b = "P_" + std::to_string(i) + "_0002.jpg";
        touch({a.c_str(), b.c_str()});
        list += a + " " + std::to_string(1 + i / 2) + "\n" + b + " " + std::to_string(1 + i / 2) + "\n";
    }
    for (int i = 0; i < 4; ++i)
        list += "P_" + std::to_string(i) + "_0001.jpg 0\nP_" + std::to_string((i + 1) % 4) + "_0001.jpg 0\n";
    const auto read = [&](const std::string& text, int folds = 2) {
        return bf::read_two_line_pairs(Text(text).source, root, bf::NameRule::up_to_number, folds);
    };
    const auto p = read(list);
    EXPECT_EQ(p.same, (std::vector<char>{1, 1, 0, 0, 1, 1, 0, 0}));
    EXPECT_EQ(p.fold, (std::vector<int>{1, 1, 1, 1, 2, 2, 2, 2}));
    const std::vector<std::pair<std::int64_t, std::int64_t>> want{{0, 1}, {2, 3}, {0, 2}, {2, 4},
                                                                  {4, 5}, {6, 7}, {4, 6}, {6, 0}};
    EXPECT_EQ(p.pairs, want);  // a fold: its share of the same pairs, then of the different ones
    EXPECT_EQ(p.subject, (Places{0, 0, 1, 1, 2, 2, 3, 3}));
    expect_data_error([&] { read(list, 3); }, "multiple of 3");
    expect_data_error([&] { read("P_0_0001.jpg 1\nP_0_0002.jpg 0\n"); }, "list.txt:2");
    expect_data_error([&] { read("P_0_0001.jpg 1\n"); }, "list.txt:2");
    expect_data_error([&] { read(list + "P_0_0001.jpg 1\nP_0_0002.jpg 1\n"); }, "list.txt:18");
    expect_data_error([&] { read("P_0_0001.jpg 1\nQ.jpg 1\nP_0_0001.jpg 0\nR.jpg 0\n", 2); }, "2 of 3 images");
    // three fields: contiguous folds, AgeDB's names
    touch({"1_Ann_20_f.jpg", "2_Ann_50_f.jpg", "3_Bob_20_m.jpg"});
    const auto agedb = bf::read_two_line_pairs(
        Text("1_Ann_20_f.jpg 2_Ann_50_f.jpg 1\n1_Ann_20_f.jpg 3_Bob_20_m.jpg 0\n2_Ann_50_f.jpg 1_Ann_20_f.jpg 1\n"
             "3_Bob_20_m.jpg 2_Ann_50_f.jpg 0\n3_Bob_20_m.jpg 1_Ann_20_f.jpg 0\n")
            .source,
        root, bf::NameRule::second_part, 2);
    EXPECT_EQ(agedb.fold, (std::vector<int>{1, 1, 1, 2, 2}));
    EXPECT_EQ(agedb.subject, (Places{0, 0, 1}));
}

TEST_F(Lists, YtfSplitsNameVideos) {
    touch({"A/0/1.jpg", "A/1/1.jpg", "B/0/1.jpg"});
    const auto p = bf::read_ytf_pairs(
        Text("split number, pair, first, second, is same\n1, 1, A/0, A/1, 1\n2, 2, A/0, B/0, 0\n").source, root);
    EXPECT_EQ(p.folds, 2);
    EXPECT_EQ(p.paths, (std::vector<fs::path>{root / "A/0", root / "A/1", root / "B/0"}));
    EXPECT_EQ(p.subject, (Places{0, 0, 1}));
    EXPECT_EQ(p.notes.size(), 1u);
    expect_data_error([&] { bf::read_ytf_pairs(Text("head\n1, 1, A/0, C/9, 1\n").source, root); }, "C/9");
    expect_data_error([&] { bf::read_ytf_pairs(Text("head\n1, 1, A/0, A/1, 1\n1, 2, A/0, , 1\n").source, root); },
                      "list.txt:3");
}

TEST_F(Lists, RetrievalSetsOfTheField) {
    touch({"chair/1_0.JPG", "chair/1_1.JPG", "img/W/a.jpg", "img/W/b.jpg", "img/W/c.jpg"});
    const auto sop = bf::read_sop_list(
        Text("image_id class_id super_class_id path\n1 11319 1 chair/1_0.JPG\n2 11319 1 chair/1_1.JPG\n").source, root);
    EXPECT_EQ(sop.images[1].label, 11319);
    EXPECT_EQ(sop.images[1].path, root / "chair/1_1.JPG");
    EXPECT_TRUE(sop.query.empty());
    expect_data_error([&] { bf::read_sop_list(Text("1 2 3 x\n").source, root); }, "list.txt:1");
    expect_data_error([&] { bf::read_sop_list(Text("image_id class_id super_class_id path\n1 x 1 y\n").source, root); },
                      "list.txt:2");
    expect_data_error(
        [&] { bf::read_sop_list(Text("image_id class_id super_class_id path\n1 1 1 no.JPG\n").source, root); },
        "1 of 1 images are missing");

    const std::string head = "3\nimage_name item_id evaluation_status\n";
    const auto shop = bf::read_inshop_list(
        Text(head + "img/W/a.jpg id_1 train\nimg/W/b.jpg id_2 query\nimg/W/c.jpg id_2 gallery\n").source, root);
    EXPECT_EQ(shop.images.size(), 2u);
    EXPECT_EQ(shop.query, (Places{0}));
    EXPECT_EQ(shop.gallery, (Places{1}));
    EXPECT_EQ(shop.images[0].label, shop.images[1].label);
    EXPECT_TRUE(shop.notes.empty());
    const auto leaky = bf::read_inshop_list(
        Text(head + "img/W/a.jpg id_2 train\nimg/W/b.jpg id_2 query\nimg/W/c.jpg id_2 gallery\n").source, root);
    ASSERT_EQ(leaky.notes.size(), 1u);
    EXPECT_NE(leaky.notes[0].find("1 items are both trained and tested"), std::string::npos);
    expect_data_error([&] { bf::read_inshop_list(Text(head + "img/W/b.jpg id_2 query\n").source, root); },
                      "is the file cut?");
    expect_data_error([&] { bf::read_inshop_list(Text(head + "img/W/b.jpg id_2 both\n").source, root); }, "list.txt:3");

    touch({"images/001.A/1.jpg", "images/100.B/1.jpg", "images/101.C/1.jpg"});
    write("images.txt", "1 001.A/1.jpg\n2 100.B/1.jpg\n3 101.C/1.jpg\n");
    write("image_class_labels.txt", "1 1\n2 100\n3 101\n");
    EXPECT_EQ(bf::read_cub_list(root, bf::RetrievalSplit::train).images.size(), 2u);
    const auto cub = bf::read_cub_list(root, bf::RetrievalSplit::test);
    ASSERT_EQ(cub.images.size(), 1u);
    EXPECT_EQ(cub.images[0].label, 101);
    write("image_class_labels.txt", "1 1\n2 100\n");
    expect_data_error([&] { bf::read_cub_list(root, bf::RetrievalSplit::test); }, "images.txt:3");
    write("image_class_labels.txt", "1 1\n3 100\n");
    expect_data_error([&] { bf::read_cub_list(root, bf::RetrievalSplit::test); }, "image_class_labels.txt:2");

    const auto cars = [&](const std::string& text, bf::RetrievalSplit split) {
        return bf::read_cars_list(Text(text).source, root, split);
    };
    const std::string list = "chair/1_0.JPG 98\nchair/1_1.JPG 99\n";
    EXPECT_EQ(cars(list, bf::RetrievalSplit::train).images[0].label, 98);
    EXPECT_EQ(cars(list, bf::RetrievalSplit::test).images[0].label, 99);
    expect_data_error([&] { cars("chair/1_0.JPG 197\n", bf::RetrievalSplit::test); }, "want 1..196");
    expect_data_error([&] { cars("chair/1_0.JPG 5\n", bf::RetrievalSplit::test); }, "no image of this half");
}

std::vector<std::byte> mat_file(const std::string& name) {
    const bf::FileSource file(std::string(BF_TEST_DIR) + "/data/cars_" + name + ".mat");
    return file.bytes(0, file.size());
}
bf::RetrievalList cars_of(std::span<const std::byte> bytes, const fs::path& root, bf::RetrievalSplit split) {
    return bf::read_cars_list(bf::MemorySource(bytes, "cars_annos.mat"), root, split);
}

TEST_F(Lists, CarsAnnotationsOfMatlab) {
    for (int i = 1; i <= 6; ++i) write("car_ims/00000" + std::to_string(i) + ".jpg", "x");
    for (const char* name : {"packed", "plain", "wide"}) {
        const auto bytes = mat_file(name);
        const auto train = cars_of(bytes, root, bf::RetrievalSplit::train),
                   test = cars_of(bytes, root, bf::RetrievalSplit::test);
        ASSERT_EQ(train.images.size(), 2u) << name;
        EXPECT_EQ(train.images[1].path, root / "car_ims/000002.jpg");
        EXPECT_EQ(train.images[1].label, 98);
        std::vector<std::int64_t> labels;
        for (const auto& e : test.images) labels.push_back(e.label);
        EXPECT_EQ(labels, (std::vector<std::int64_t>{99, 100, 196, 99}));
        EXPECT_EQ(test.images[3].path, root / "car_ims/000006.jpg");
    }
    fs::remove(root / "car_ims/000003.jpg");
    expect_data_error([&] { cars_of(mat_file("plain"), root, bf::RetrievalSplit::test); }, "1 of 6 images are missing");
}

TEST_F(Lists, DamagedMatFilesAreRefused) {
    for (int i = 1; i <= 6; ++i) write("car_ims/00000" + std::to_string(i) + ".jpg", "x");
    constexpr auto test = bf::RetrievalSplit::test;
    for (const char* name : {"packed", "plain"}) {
        const auto bytes = mat_file(name);
        for (std::size_t n = 0; n < bytes.size(); ++n)
            EXPECT_THROW(cars_of(std::span(bytes).first(n), root, test), bf::Error) << name << " cut at " << n;
    }
    const auto changed = [&](std::size_t at, const std::string& to, const char* error) {
        auto bytes = mat_file("plain");
        std::memcpy(bytes.data() + at, to.data(), to.size());
        expect_data_error([&] { cars_of(bytes, root, test); }, error);
    };
    changed(124, "\1", "no little-endian MAT-file of level 5");
    changed(0, "MATLAB 7.3", "version 7.3 (HDF5)");
    changed(124, std::string("\1\0MI", 4), "is a big-endian MAT-file");
    changed(0, std::string("\0\0\0\0\6", 5), "MAT-file of level 4");
    changed(0x178, "b", "has no variable annotations; got class_names, bnnotations");
    changed(0x194, "X", "got 88 bytes for names of 17");
    changed(0x1ba, "clasp", "structs annotations have no field class; got relative_im_path");
    changed(0x158, "\5", "is no struct array; got class 5");
    auto packed = mat_file("packed");
    packed[packed.size() - 1] ^= std::byte{1};
    expect_data_error([&] { cars_of(packed, root, test); }, "damaged deflate stream");
}

// Bytes of little-endian numbers, for files by hand.
std::vector<std::byte> words(std::initializer_list<std::uint32_t> all) {
    const auto bytes = std::as_bytes(std::span(all.begin(), all.size()));
    return {bytes.begin(), bytes.end()};
}
std::vector<std::byte> joined(std::initializer_list<std::span<const std::byte>> parts) {
    std::vector<std::byte> out;
    for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
    return out;
}

TEST_F(Lists, FlippedBytesOfAMatFileAreRefusedOrHarmless) {
    for (int i = 1; i <= 6; ++i) write("car_ims/00000" + std::to_string(i) + ".jpg", "x");
    for (const char* name : {"packed", "plain", "wide"}) {
        const auto sound = mat_file(name);
        for (std::size_t at = 0; at < sound.size(); ++at)
            for (const int flip : {0x01, 0x80, 0xFF}) {
                auto bytes = sound;
                bytes[at] ^= static_cast<std::byte>(flip);
                try {
                    const auto list = cars_of(bytes, root, bf::RetrievalSplit::test);
                    // zlib's sum covers all that is packed; elsewhere a label may become another one
                    if (std::string(name) != "plain") {
                        ASSERT_EQ(list.images.size(), 4u) << name << " at " << at;
                    }
                } catch (const bf::Error& e) {
                    ASSERT_EQ(e.code(), bf::ErrorCode::data) << name << " at " << at << ": " << e.what();
                }
            }
    }
}

TEST_F(Lists, MatVariablesBeforeTheAnnotations) {
    for (int i = 1; i <= 6; ++i) write("car_ims/00000" + std::to_string(i) + ".jpg", "x");
    const auto packed = mat_file("packed"), plain = mat_file("plain");
    const auto length = [](const std::vector<std::byte>& file) {  // of the first variable, class_names, with its tag
        std::uint32_t n = 0;
        std::memcpy(&n, file.data() + 132, sizeof n);
        return std::size_t{8} + n;
    };
    const auto head = std::span(packed).first(128), names = std::span(packed).subspan(128, length(packed)),
               annotations = std::span(plain).subspan(128 + length(plain));
    ASSERT_NE(names.size() % 8, 0u);  // so that what follows stands at no multiple of 8
    constexpr auto test = bf::RetrievalSplit::test;
    EXPECT_EQ(cars_of(joined({head, names, annotations}), root, test).images.size(), 4u);

    // an object of MATLAB (class 17) has texts where others have sizes: its name, MCOS, its class
    const auto object =
        words({14, 56, 6, 8, 17, 0, 0x10001, 's', 0x40001, 0x534f434d, 1, 6, 0x69727473, 0x676e, 14, 0});
    EXPECT_EQ(cars_of(joined({head, object, annotations}), root, test).images.size(), 4u);

    const auto nothing = words({14, 0});
    std::vector<std::byte> many(head.begin(), head.end());
    for (int i = 0; i < 1024; ++i) many.insert(many.end(), nothing.begin(), nothing.end());
    expect_data_error([&] { cars_of(joined({many, annotations}), root, test); }, "more than 1024 variables");
    many.resize(many.size() - nothing.size());
    EXPECT_EQ(cars_of(joined({many, annotations}), root, test).images.size(), 4u);

    // what unpacks to too much: stored blocks of 65535 bytes in a zlib stream
    auto stream = words({0x0178});
    stream.resize(2);
    for (int i = 0; i < 200; ++i) {
        const auto block = words({0x00FFFF00, 0x00000000});
        stream.insert(stream.end(), block.begin(), block.begin() + 5);
        stream.resize(stream.size() + 65535);
    }
    const auto tag = words({15, static_cast<std::uint32_t>(stream.size())});
    expect_data_error(
        [&] {
            cars_of(joined({head, tag, stream, annotations}), root, test);
        },
        "unpacks to more than 12582912 bytes");
}

TEST_F(Lists, AnnotationsOfMatlabThatNameNoImageOrClass) {
    for (int i = 1; i <= 6; ++i) write("car_ims/00000" + std::to_string(i) + ".jpg", "x");
    const auto sound = mat_file("plain");
    const auto changed = [&](const std::string& from, const std::string& to, const char* error) {
        auto bytes = sound;
        const auto key = std::as_bytes(std::span(from)), value = std::as_bytes(std::span(to));
        const auto at = std::search(bytes.begin(), bytes.end(), key.begin(), key.end());
        ASSERT_NE(at, bytes.end());
        std::copy(value.begin(), value.end(), at);
        expect_data_error([&] { cars_of(bytes, root, bf::RetrievalSplit::test); }, error);
    };
    const auto number = [](double value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
    changed("car_ims/000002.jpg", "car_ims/000009.jpg", "1 of 6 images are missing");
    changed("car_ims/000002.jpg", std::string("car_ims/000002.jp\0", 18), "annotation 2: want a path");
    changed(number(98), number(98.5),
            "annotation 2: want a path and a class of 1..196; got `car_ims/000002.jpg`, 98.5");
    changed(number(98), number(0), "annotation 2");
    changed(number(98), number(197), "annotation 2");
    changed(number(98), number(std::nan("")), "annotation 2");
    changed("annotations", "\x1bnnotations", "has no variable annotations; got class_names, ?nnotations");
}

TEST_F(Lists, LabelsAreNumbersOrWords) {
    touch({"a b.jpg", "c.jpg", "d.jpg"});
    const auto numbers = bf::read_label_list(Text("a b.jpg\t7\nc.jpg 3\n").source, root);
    EXPECT_EQ(numbers.images[0].path, root / "a b.jpg");
    EXPECT_EQ(numbers.images[0].label, 7);
    const auto words = bf::read_label_list(Text("a b.jpg pear\nc.jpg 3\nd.jpg pear\n").source, root);
    EXPECT_EQ(words.images[0].label, 1);
    EXPECT_EQ(words.images[1].label, 0);
    EXPECT_EQ(words.images[2].label, 1);
    expect_data_error([&] { bf::read_label_list(Text("c.jpg 3\nd.jpg\n").source, root); }, "list.txt:2");
    expect_data_error([&] { bf::read_label_list(Text("\n").source, root); }, "names no image");
}

TEST_F(Lists, OmniglotStripsAndFolders) {
    const auto pgm = [](int width, int height, int first) {
        std::string text = "P5\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n";
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) text += static_cast<char>(first + x / height);
        return text;
    };
    write("Latin/character01.pgm", pgm(12, 4, 10));  // a strip of three
    write("Latin/character02.pgm", pgm(8, 4, 50));
    write("Greek/character01/b.pgm", pgm(6, 6, 90));  // a folder: one drawing a file
    write("Greek/character01/a.pgm", pgm(4, 4, 80));
    write("Greek/notes.txt", "no image");
    const bf::Omniglot d(root);
    EXPECT_EQ(d.size(), 7);
    EXPECT_EQ(d.identities(), 3);
    EXPECT_EQ(d.label(1), 0);
    EXPECT_EQ(d.label(4), 1);
    EXPECT_EQ(d.label(6), 2);
    EXPECT_EQ(d.name(4), (root / "Latin/character01.pgm#2").string());
    EXPECT_EQ(d.image(4).width, 4);
    EXPECT_EQ(d.image(4).at(3, 3)[0], 12);
    EXPECT_EQ(d.image(1).width, 6);
    EXPECT_EQ(d.image(1).at(0, 0)[0], 90);
    EXPECT_THROW(d.image(7), bf::Error);
    write("Latin/character02.pgm", pgm(9, 4, 50));
    expect_data_error([&] { bf::Omniglot bad(root); }, "no row of square drawings; got 9 x 4");
    expect_data_error([&] { bf::Omniglot bad(root / "Latin"); }, "has no drawing");
}

TEST_F(Lists, DamagedListsAreDataErrorsOrPass) {
    touch({"A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg"});
    const std::string
        lfw = "2\t1\nA\t1\t2\nA\t1\tB\t1\nA\t1\t2\nA\t2\tB\t1\n",
        two =
            "A/A_0001.jpg 1\nA/A_0002.jpg 1\nA/A_0002.jpg 2\nA/A_0001.jpg 2\n"
            "A/A_0001.jpg 0\nB/B_0001.jpg 0\nA/A_0002.jpg 0\nB/B_0001.jpg 0\n",
        ytf = "head\n1, 1, A, A, 1\n2, 2, A, B, 0\n", people = "2\n1\nA\t2\n2\nB\t1\nC\t3\n",
        sop = "image_id class_id super_class_id path\n1 2 1 A/A_0001.jpg\n2 2 1 B/B_0001.jpg\n",
        shop = "2\nimage_name item_id evaluation_status\nA/A_0001.jpg id_2 query\nA/A_0002.jpg id_2 gallery\n";
    std::uint32_t state = 7;
    const auto draw = [&state](std::size_t n) {
        state = state * 1664525u + 1013904223u;
        return static_cast<std::size_t>((static_cast<std::uint64_t>(state) * n) >> 32);
    };
    int passed = 0, refused = 0;
    const std::string interesting("\n\t \0\"0129-,/\r\xff", 15);
    for (int round = 0; round < 6000; ++round) {
        std::string text =
            std::vector<std::string>{lfw, two, ytf, people, sop, shop}[static_cast<std::size_t>(round % 6)];
        for (std::size_t edits = draw(3); edits < 3 && !text.empty(); ++edits) {
            const std::size_t at = draw(text.size());
            switch (draw(4)) {
                case 0: text[at] = interesting[draw(interesting.size())]; break;
                case 1: text.erase(at, 1 + draw(8)); break;
                case 2: text.insert(at, text.substr(draw(text.size()), draw(12))); break;
                default: text.resize(at + 1);
            }
        }
        const Text list(text);
        try {
            switch (round % 6) {
                case 0: bf::read_lfw_pairs(list.source, root); break;
                case 1: bf::read_two_line_pairs(list.source, root, bf::NameRule::up_to_number, 2); break;
                case 2: bf::read_ytf_pairs(list.source, root); break;
                case 3: bf::read_lfw_people(list.source); break;
                case 4: bf::read_sop_list(list.source, root); break;
                default: bf::read_inshop_list(list.source, root);
            }
            ++passed;
        } catch (const bf::Error& e) {
            ++refused;
            ASSERT_EQ(e.code(), bf::ErrorCode::data) << e.what() << "\n" << text;
            ASSERT_NE(std::string(e.what()).find("list.txt"), std::string::npos) << e.what() << "\n" << text;
        }
    }
    EXPECT_GT(passed, 50);
    EXPECT_GT(refused, 3000);
}

TEST(RealLists, LfwAndOmniglot) {
    const char* variable = std::getenv("BF_SHARED");
    const fs::path shared = fs::path(variable ? variable : BF_SHARED_DIR) / "data", protocol = shared / "lfw/protocol";
    if (!fs::exists(protocol)) GTEST_SKIP() << "LFW not found; set BF_SHARED";
    const auto view1 =
        bf::read_lfw_view1(protocol / "pairsDevTrain.txt", protocol / "pairsDevTest.txt", shared / "lfw/images");
    EXPECT_EQ(view1.pairs.size(), 2u * 843 + 2 * 398);
    EXPECT_TRUE(view1.notes.empty());
    EXPECT_TRUE(bf::read_lfw_pairs(protocol / "pairs.txt", shared / "lfw/images").notes.empty());
    const auto people = bf::read_lfw_people(protocol / "people.txt");
    EXPECT_EQ(people.back().fold, 9);
    EXPECT_EQ(bf::read_lfw_people(protocol / "peopleDevTest.txt").size(), 1525u);
    const bf::Omniglot drawings(shared / "omniglot");
    EXPECT_EQ(drawings.size(), 3660);
    EXPECT_EQ(drawings.identities(), 183);
}

}  // namespace

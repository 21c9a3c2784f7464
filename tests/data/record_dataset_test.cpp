#include "bf/data/record_dataset.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "bf/data/encode.hpp"
#include "bf/data/loader.hpp"
#include "bf/io/json.hpp"
#include "errors.hpp"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

fs::path tiny() {
    const char* variable = std::getenv("BF_SHARED");
    return fs::path(variable ? variable : BF_SHARED_DIR) / "data/insightface-tiny";
}

/// A record file in memory, record by record.
struct Made {
    Bytes data, idx;
    std::map<std::uint32_t, std::size_t> offset;

    void add(std::uint32_t key, const Bytes& payload) {
        offset[key] = data.size();
        const std::string line = bf::index_line(key, data.size());
        const auto text = std::as_bytes(std::span(line));
        idx.insert(idx.end(), text.begin(), text.end());
        bf::append_record(data, payload);
    }
    void image(std::uint32_t key, float label, int mark, bool array = false) {
        const float labels[2] = {label, 1};
        Bytes payload =
            array ? bf::ImageRecordHeader::bytes(0, labels, key) : bf::ImageRecordHeader::bytes(label, {}, key);
        std::string ppm = "P5 4 4 255\n" + std::string(16, static_cast<char>(mark));
        const auto text = std::as_bytes(std::span(ppm));
        payload.insert(payload.end(), text.begin(), text.end());
        add(key, payload);
    }
    void list(std::uint32_t key, float a, float b) {
        const float labels[2] = {a, b};
        add(key, bf::ImageRecordHeader::bytes(0, labels, key));
    }
    bf::RecordDataset open(bool with_index = true, const bf::RecordDatasetOptions& options = {}) const {
        const bf::MemorySource index(idx, "made.idx");
        return {std::make_shared<bf::MemorySource>(data, "made.rec"), with_index ? &index : nullptr, nullptr, options};
    }
    /// InsightFace's layout with these numbers of images.
    static Made layout(const std::vector<int>& images, std::uint32_t first = 1) {
        Made m;
        std::uint32_t key = first;
        std::vector<std::uint32_t> begins;
        for (std::size_t k = 0; k < images.size(); ++k) {
            begins.push_back(key);
            for (int i = 0; i < images[k]; ++i, ++key) m.image(key, static_cast<float>(k), static_cast<int>(k));
        }
        const std::uint32_t a = key;
        begins.push_back(a);
        m.list(0, static_cast<float>(a), static_cast<float>(a + images.size()));
        for (std::size_t k = 0; k < images.size(); ++k)
            m.list(key++, static_cast<float>(begins[k]), static_cast<float>(begins[k + 1]));
        return m;
    }
};
std::vector<std::int64_t> labels(const bf::Dataset& d) {
    std::vector<std::int64_t> all;
    for (std::int64_t i = 0; i < d.size(); ++i) all.push_back(d.label(i));
    return all;
}

TEST(RecordDataset, LargeJpegsAreDecodedSmallWhereThatIsEnough) {
    bf::Image large(64, 48);
    for (std::size_t i = 0; i < large.pixels.size(); ++i) large.pixels[i] = static_cast<std::uint8_t>(i / 97);
    const Bytes jpeg = bf::encode_jpeg(large);
    Bytes payload = bf::ImageRecordHeader::bytes(0, {}, 1);
    payload.insert(payload.end(), jpeg.begin(), jpeg.end());
    Made made;
    made.add(1, payload);
    const bf::RecordDataset records = made.open();
    bf::Image loaded;
    for (const int wanted : {0, 49, 24, 12}) {
        records.load(0, wanted, loaded);
        EXPECT_EQ(loaded.pixels, bf::decode_image(jpeg, "a file", {.wanted_side = wanted}).pixels) << wanted;
    }
    EXPECT_EQ(loaded.height, 12);
    EXPECT_EQ(records.image(0).height, 48);
}

TEST(RecordDataset, InsightFaceTiny) {
    if (!fs::exists(tiny() / "train.rec")) GTEST_SKIP() << "insightface-tiny not found; set BF_SHARED";
    std::ifstream in(tiny() / "expected.json");
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const bf::Json expected = bf::parse_json(text, "expected.json");
    const bf::RecordDataset faces(tiny());
    EXPECT_EQ(faces.labels_from(), "identity records");
    EXPECT_TRUE(faces.notes().empty());
    EXPECT_EQ(faces.size(), 238);
    EXPECT_EQ(faces.identities(), 40);
    // `key crc32c` of the images whose MD5 expected.json gives: record_golden.py
    std::ifstream golden(fs::path(BF_TEST_DIR) / "data/record_golden.txt");
    const auto& records = expected.find("records")->array;
    ASSERT_EQ(records.size(), 238u);
    for (std::int64_t i = 0; i < faces.size(); ++i) {
        std::uint32_t key = 0, crc = 0;
        golden >> key >> crc;
        const bf::Json& r = records[static_cast<std::size_t>(i)];
        EXPECT_EQ(r.find("key")->whole(), faces.key(i));
        EXPECT_EQ(r.find("label")->whole(), faces.label(i));
        EXPECT_EQ(key, faces.key(i));
        const Bytes jpeg = faces.encoded(i);
        EXPECT_EQ(crc, bf::crc32c(jpeg.data(), jpeg.size())) << key;
    }
    EXPECT_EQ(faces.image(7).width, 112);
    EXPECT_TRUE(has(faces.name(0), "train.rec#key 1")) << faces.name(0);
    const bf::RecordDataset two(tiny() / "train_2labels.rec");
    EXPECT_EQ(two.size(), 65);
    EXPECT_EQ(two.identities(), 10);
    for (std::int64_t i = 0; i < 65; ++i)
        EXPECT_EQ(two.label(i), records[static_cast<std::size_t>(i)].find("label")->whole());
    EXPECT_TRUE(has(data_message([] { bf::RecordDataset(tiny() / "split.rec"); }), "has no readable image"));
    EXPECT_TRUE(has(data_message([] { bf::RecordDataset(tiny().parent_path()); }), "has no train.rec"));
    EXPECT_TRUE(has(data_message([] { bf::RecordDataset("/nonexistent/x.rec"); }), "cannot be read"));
}

TEST(RecordDataset, LayoutsAndLabels) {
    const Made m = Made::layout({3, 1, 2});
    const std::vector<std::int64_t> want{0, 0, 0, 1, 2, 2};
    for (const bool index : {true, false}) {
        const auto d = m.open(index);
        EXPECT_EQ(labels(d), want);
        EXPECT_EQ(d.labels_from(), "identity records");
        EXPECT_EQ(d.notes().size(), index ? 0u : 1u);
        for (int i = 0; i < 6; ++i) EXPECT_EQ(d.image(i).at(0, 0)[0], want[static_cast<std::size_t>(i)]);
    }
    const auto some = m.open(true, {.min_images = 2});
    EXPECT_EQ(labels(some), (std::vector<std::int64_t>{0, 0, 0, 1, 1}));
    EXPECT_EQ(some.identities(), 2);
    EXPECT_TRUE(has(data_message([&] { m.open(true, {.min_images = 4}); }), "no identity with at least 4"));
    Made shuffled;  // im2rec: keys from 0, each an image; labels with a gap, some in arrays
    for (const auto& [key, label] : {std::pair{0, 9}, std::pair{1, 4}, std::pair{3, 9}, std::pair{2, 0}})
        shuffled.image(static_cast<std::uint32_t>(key), static_cast<float>(label), label, key % 2 == 1);
    const auto s = shuffled.open();
    EXPECT_EQ(labels(s), (std::vector<std::int64_t>{2, 1, 0, 2}));
    EXPECT_EQ(s.labels_from(), "image headers");
    EXPECT_NE(s.fingerprint(), m.open().fingerprint());
    Made other = Made::layout({3, 1, 2});  // identity records that are not those of the images: the images' labels hold
    other.image(100, 8, 1);
    const auto o = other.open();
    EXPECT_EQ(o.labels_from(), "image headers");
    EXPECT_EQ(labels(o), (std::vector<std::int64_t>{0, 0, 0, 1, 2, 2, 3}));
    ASSERT_EQ(o.notes().size(), 1u);
}

TEST(RecordDataset, LabelsOfImagesAreHeldAgainstTheirIdentityRecords) {
    Made m;  // ranges that fit the index, in another order than the labels
    for (std::uint32_t key = 1; key < 5; ++key) m.image(key, key < 3 ? 1 : 0, 0);
    m.list(0, 5, 7);
    m.list(5, 1, 3);
    m.list(6, 3, 5);
    const auto d = m.open();
    EXPECT_EQ(d.labels_from(), "image headers");
    EXPECT_EQ(labels(d), (std::vector<std::int64_t>{1, 1, 0, 0}));
    ASSERT_EQ(d.notes().size(), 1u);
    Made cut = Made::layout({2, 2});  // an index without its last line
    cut.idx.erase(cut.idx.end() - 6, cut.idx.end());
    EXPECT_EQ(labels(cut.open()), (std::vector<std::int64_t>{0, 0, 1, 1}));
    EXPECT_TRUE(has(cut.open().notes().at(0), "names identity records (A, B) that the index does not have"));
    EXPECT_TRUE(has(d.notes()[0], "image of key 1 has label 1, its identity record is number 0")) << d.notes()[0];
}

TEST(RecordDataset, KeysBeyondWhatF32Holds) {
    // 17 million images would be a long test: keys from just below 2^24 on, as at the end of Glint360K
    const std::vector<int> images{5, 3, 1, 1, 2, 4, 1, 1, 1, 3, 8, 1, 1, 5, 1, 2, 3, 1, 1, 1, 7, 1};
    for (std::uint32_t first = 16777208; first < 16777224; ++first) {
        const Made m = Made::layout(images, first);
        const auto d = m.open();
        EXPECT_EQ(d.labels_from(), "identity records") << first << (d.notes().empty() ? "" : d.notes()[0]);
        ASSERT_EQ(d.size(), 54) << first;
        std::vector<std::int64_t> want;
        for (std::size_t k = 0; k < images.size(); ++k)
            want.insert(want.end(), static_cast<std::size_t>(images[k]), std::int64_t(k));
        ASSERT_EQ(labels(d), want) << first;
    }
    const Made far = Made::layout({40, 1, 2, 30}, 42474500);  // f32 steps by 4 there
    EXPECT_EQ(far.open().labels_from(), "identity records");
    EXPECT_EQ(far.open().label(40), 1);
    EXPECT_EQ(far.open().label(41), 2);
}

TEST(RecordDataset, DamageIsCountedByTheLoader) {
    Made m = Made::layout({10, 10});
    m.data[m.offset[4]] ^= std::byte{1};           // no magic
    m.data[m.offset[7] + 8 + 24] ^= std::byte{1};  // no image
    auto d = m.open();
    EXPECT_EQ(d.size(), 20);
    EXPECT_EQ(d.labels_from(), "identity records");
    EXPECT_TRUE(has(data_message([&] { d.image(3); }), "made.rec#key 4 (byte")) << data_message([&] { d.image(3); });
    EXPECT_TRUE(has(data_message([&] { d.image(3); }), "no magic number"));
    EXPECT_TRUE(has(data_message([&] { d.image(6); }), "not a JPEG"));
    bf::Loader loader(d, {.batch_size = 20, .image_size = 16, .max_bad_share = 0.1});
    loader.next();
    EXPECT_EQ(loader.bad_images().size(), 2u);
    bf::Loader strict(d, {.batch_size = 20, .image_size = 16, .max_bad_share = 0.05});
    EXPECT_TRUE(has(data_message([&] { strict.next(); }), "2 unreadable images"));
    m.data[m.offset[22]] ^= std::byte{1};  // an identity record: the images' labels take its place
    EXPECT_EQ(m.open().labels_from(), "image headers");
    EXPECT_EQ(labels(m.open()), labels(d));
    EXPECT_EQ(m.open().notes().size(), 2u);  // and that of key 4 cannot be read
    EXPECT_EQ(m.open(false).size(), 19);     // without an index the record without a magic cannot be known
    EXPECT_TRUE(has(data_message([] { Made().open(); }), "made.idx: has no record"));
    EXPECT_TRUE(has(data_message([] { Made().open(false); }), "made.rec: has no record"));
    Made cut = Made::layout({3, 3});
    cut.data.resize(cut.data.size() / 2);
    EXPECT_EQ(cut.open().size(), 9);  // what is missing counts as damaged images: record 0 is lost too
    EXPECT_THROW(cut.open().image(8), bf::Error);
    Made half = Made::layout({2, 2});  // an image whose label is no class is not trained on as another class
    half.data[half.offset[0]] ^= std::byte{1};
    half.data[half.offset[2] + 8 + 6] = std::byte{0x20};  // 0 becomes 2^-63
    const auto h = half.open();
    EXPECT_EQ(labels(h), (std::vector<std::int64_t>{0, 0, 0, 1, 1}));
    EXPECT_TRUE(has(data_message([&] { h.image(2); }), "its label cannot be read"));
    EXPECT_EQ(h.image(1).width, 4);
    Made wrong;
    for (std::uint32_t k = 0; k < 3; ++k) wrong.image(k, 0.5f, 1);
    EXPECT_TRUE(has(data_message([&] { wrong.open(); }), "has no readable image"));
}

TEST(RecordDataset, LabelsFromTheChecksumFile) {
    const Made m = Made::layout({3, 1, 2});
    const auto sums = [&m](std::uint64_t moved, float label) {
        std::string text;
        bf::RecordSumWriter writer([&](std::string_view part) { text += part; }, m.data.size(), m.offset.size());
        for (const auto& [key, offset] : m.offset) {
            const bool lost = key == 2;
            const bool list = key == 0 || key > 6;
            writer.add({offset + moved, key, 0,
                        lost       ? std::nanf("")
                        : key == 6 ? label
                        : key > 4  ? 2.0f
                        : key == 4 ? 1.0f
                                   : 0.0f,
                        list   ? bf::RecordKind::list
                        : lost ? bf::RecordKind::damaged
                               : bf::RecordKind::image});
        }
        writer.finish();
        const auto bytes = std::as_bytes(std::span(text));
        const Bytes copy(bytes.begin(), bytes.end());
        const bf::MemorySource index(m.idx, "made.idx"), source(copy, "made.rec.sum");
        return bf::RecordDataset(std::make_shared<bf::MemorySource>(m.data, "made.rec"), &index, &source);
    };
    const auto d = sums(0, 2);
    EXPECT_EQ(d.labels_from(), "checksum file");
    EXPECT_EQ(labels(d), (std::vector<std::int64_t>{0, 0, 0, 1, 2, 2}));
    EXPECT_TRUE(has(data_message([&] { d.image(1); }), "its label cannot be read"));
    EXPECT_EQ(d.image(2).width, 4);
    EXPECT_TRUE(has(data_message([&] { sums(4, 2); }), "does not fit the .idx at key 0"));
    EXPECT_TRUE(has(data_message([&] { sums(0, 1); }), "does not fit the .idx at key 6"));  // images with other labels
}

}  // namespace

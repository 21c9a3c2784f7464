#include "bf/io/record_io.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "bf/base/random.hpp"
#include "bf/io/json.hpp"
#include "bf/io/record_index.hpp"
#include "errors.hpp"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

fs::path shared_data() {
    const char* variable = std::getenv("BF_SHARED");
    return fs::path(variable ? variable : BF_SHARED_DIR) / "data";
}
Bytes bytes_of(std::string_view text) {
    const auto b = std::as_bytes(std::span(text));
    return {b.begin(), b.end()};
}
Bytes file(const fs::path& path) {
    const bf::FileSource source(path);
    return source.bytes(0, source.size());
}

/// Record n of record_golden.py.
Bytes golden_payload(std::size_t n) {
    Bytes data(3 * n + n % 5);
    for (std::size_t j = 0; j < data.size(); ++j) data[j] = static_cast<std::byte>(31 * n + 7 * j);
    const std::vector<std::size_t> places = n % 3 == 1   ? std::vector<std::size_t>{n % 9}
                                            : n % 4 == 2 ? std::vector<std::size_t>{8, 12}
                                            : n % 5 == 3 ? std::vector<std::size_t>{0, 4, 20}
                                                         : std::vector<std::size_t>{};
    for (const std::size_t at : places)
        if (at + 4 <= data.size()) std::memcpy(data.data() + at, &bf::record_magic, 4);
    return data;
}
/// n records of 24 + i bytes, i the id in an image header.
Bytes made(std::uint64_t n, std::vector<std::uint64_t>* offsets = nullptr) {
    Bytes out;
    for (std::uint64_t i = 0; i < n; ++i) {
        if (offsets) offsets->push_back(out.size());
        Bytes payload = bf::ImageRecordHeader::bytes(static_cast<float>(i), {}, i);
        payload.resize(24 + 4 * i, std::byte{7});
        bf::append_record(out, payload);
    }
    return out;
}
struct Found {
    std::vector<std::uint64_t> offsets;
    std::vector<bf::ScannedRecord> damaged;
};
Found scan(const Bytes& data) {
    const bf::MemorySource source(data, "made.rec");
    const bf::RecordReader reader(source);
    bf::RecordScan scanner(reader);
    Found found;
    std::uint64_t at = 0;
    while (const auto r = scanner.next()) {
        EXPECT_EQ(r->offset, at);
        EXPECT_GT(r->end, at);
        at = r->end;
        if (r->damage.empty())
            found.offsets.push_back(r->offset);
        else
            found.damaged.push_back(*r);
    }
    EXPECT_EQ(at, data.size());
    return found;
}

TEST(RecordIo, WritesAndReadsWhatAnIndependentWriterWrote) {
    const fs::path folder = fs::path(BF_TEST_DIR) / "io";
    const bf::FileSource source(folder / "record_golden.rec");
    const bf::RecordReader reader(source);
    const auto index = bf::read_record_index(bf::FileSource(folder / "record_golden.idx"));
    ASSERT_EQ(index.size(), 40u);
    Bytes written;
    for (std::size_t n = 0; n < 40; ++n) {
        EXPECT_EQ(index[n].offset, written.size());
        EXPECT_EQ(reader.read(index[n].offset), golden_payload(n)) << n;
        bf::append_record(written, golden_payload(n));
    }
    EXPECT_EQ(written, file(folder / "record_golden.rec"));
    EXPECT_EQ(scan(written).offsets.size(), 40u);
}

TEST(RecordIo, MagicAtEachPlaceComesBack) {
    for (std::size_t length = 0; length < 24; ++length)
        for (std::size_t a = 0; a + 4 <= length; ++a)
            for (std::size_t b = a; b + 4 <= length; ++b) {
                Bytes payload(length, std::byte{1});
                std::memcpy(payload.data() + a, &bf::record_magic, 4);
                std::memcpy(payload.data() + b, &bf::record_magic, 4);
                Bytes out;
                bf::append_record(out, payload);
                const bf::MemorySource source(out, "memory");
                const bf::RecordReader reader(source);
                ASSERT_EQ(reader.read(0), payload) << length << ' ' << a << ' ' << b;
                ASSERT_EQ(reader.extent(0).end, out.size());
                Bytes front(7, std::byte{});
                ASSERT_EQ(reader.head(0, front), length);
                const std::size_t n = std::min<std::size_t>(7, length);
                ASSERT_TRUE(std::equal(front.begin(), front.begin() + static_cast<std::ptrdiff_t>(n), payload.begin()));
            }
}

TEST(RecordIo, RealSplitRecords) {
    const fs::path folder = shared_data() / "insightface-tiny";
    if (!fs::exists(folder / "split.rec")) GTEST_SKIP() << "insightface-tiny not found; set BF_SHARED";
    const Bytes text = file(folder / "expected.json");
    const bf::Json all = bf::parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, "expected.json");
    const bf::Json* split = all.find("split");
    ASSERT_TRUE(split);
    const bf::FileSource source(folder / "split.rec");
    const bf::RecordReader reader(source);
    const auto index = bf::read_record_index(bf::FileSource(folder / "split.idx"));
    ASSERT_EQ(index.size(), split->array.size());
    Bytes written;
    for (std::size_t i = 0; i < index.size(); ++i) {
        std::string hex;
        const Bytes payload = reader.read(index[i].offset);
        for (const std::byte b : payload) {
            char digits[3];
            std::snprintf(digits, sizeof digits, "%02x", std::to_integer<unsigned>(b));
            hex += digits;
        }
        EXPECT_EQ(hex, split->array[i].string) << i;
        bf::append_record(written, payload);
    }
    EXPECT_EQ(written, file(folder / "split.rec"));
}

TEST(RecordIo, WrongRecordsSayFileAndByte) {
    const auto read = [](const Bytes& data, std::uint64_t offset = 0, const bf::RecordLimits& limits = {}) {
        const bf::MemorySource source(data, "made.rec");
        const bf::RecordReader reader(source, limits);
        return data_message([&] { reader.read(offset); });
    };
    const auto part = [](std::uint32_t flag, std::uint32_t length, std::size_t bytes) {
        Bytes out(8 + bytes);
        const std::uint32_t words[2] = {bf::record_magic, flag << 29 | length};
        std::memcpy(out.data(), words, 8);
        return out;
    };
    const auto join = [](Bytes a, const Bytes& b) {
        a.insert(a.end(), b.begin(), b.end());
        return a;
    };
    EXPECT_TRUE(has(read({}), "made.rec: record at byte 0: file ends inside a record's header (byte 0 of 0)"));
    EXPECT_TRUE(has(read(Bytes(12)), "no magic number"));
    EXPECT_TRUE(has(read(part(0, 5, 8), 1), "no multiple of 4"));
    EXPECT_TRUE(has(read(part(0, 5, 8), 1 << 20), "file ends"));
    EXPECT_TRUE(has(read(part(0, 0x1fffffff, 16)), "record is longer than the file (byte 0 of 24)"));
    EXPECT_TRUE(has(read(part(0, 9, 8)), "record is longer than the file"));
    EXPECT_TRUE(has(read(part(2, 8, 8)), "part flag out of order"));
    EXPECT_TRUE(has(read(part(3, 8, 8)), "part flag out of order"));
    EXPECT_TRUE(has(read(part(5, 8, 8)), "part flag out of order"));
    EXPECT_TRUE(has(read(join(part(1, 4, 4), part(0, 4, 4))), "part flag out of order (byte 12 of 24)"));
    EXPECT_TRUE(has(read(join(part(1, 4, 4), part(1, 4, 4))), "part flag out of order"));
    EXPECT_TRUE(has(read(join(part(1, 3, 4), part(3, 4, 4))), "no multiple of 4"));
    EXPECT_TRUE(has(read(part(1, 4, 4)), "file ends inside"));
    EXPECT_TRUE(has(read(part(0, 80, 80), 0, {.max_record = 64}), "longer than the limit"));
    EXPECT_EQ(read(part(0, 80, 80), 0, {.max_record = 80}), "no error");
    EXPECT_EQ(read(part(0, 5, 5)), "no error");  // the last record of a file may lack its padding
    Bytes out;
    EXPECT_THROW(bf::append_record(out, std::span(static_cast<const std::byte*>(nullptr), std::size_t{1} << 29)),
                 bf::Error);
}

TEST(RecordScan, DamageIsFoundAndTheRestKept) {
    std::vector<std::uint64_t> offsets;
    const Bytes good = made(10, &offsets);
    EXPECT_EQ(scan(good).offsets, offsets);
    EXPECT_TRUE(scan({}).offsets.empty());
    const auto without = [&](std::size_t k) {
        auto rest = offsets;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(k));
        return rest;
    };
    for (std::size_t k = 0; k < 10; ++k)
        for (const auto& [place, value] :
             {std::pair{0, 0xff}, std::pair{4, static_cast<int>(28 + 4 * k)}, std::pair{5, 0x01}, std::pair{6, 0x20},
              std::pair{7, 0x1f}, std::pair{7, 0x40}, std::pair{7, 0x20}}) {
            Bytes bad = good;  // the magic, the length (longer by a little, by much, by very much), the part flag
            bad[offsets[k] + static_cast<std::size_t>(place)] = static_cast<std::byte>(value);
            const Found found = scan(bad);
            EXPECT_EQ(found.offsets, without(k)) << k << ' ' << place;
            ASSERT_EQ(found.damaged.size(), 1u) << k << ' ' << place;
            EXPECT_EQ(found.damaged[0].offset, offsets[k]) << k << ' ' << place;
        }
    Bytes shorter = good;  // record 5 has 44 bytes, and says 20: its rest is a damaged stretch
    shorter[offsets[5] + 4] = std::byte{20};
    Found found = scan(shorter);
    EXPECT_EQ(found.offsets, offsets);
    ASSERT_EQ(found.damaged.size(), 1u);
    EXPECT_EQ(found.damaged[0].offset, offsets[5] + 28);
    for (std::size_t cut = offsets[9] + 1; cut < good.size(); ++cut) {
        found = scan(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(cut)));
        EXPECT_EQ(found.offsets, without(9));
        ASSERT_EQ(found.damaged.size(), 1u);
    }
    Bytes zeros = good;  // a lost sector over several records
    std::fill(zeros.begin() + static_cast<std::ptrdiff_t>(offsets[3]),
              zeros.begin() + static_cast<std::ptrdiff_t>(offsets[6] + 8), std::byte{});
    EXPECT_EQ(scan(zeros).offsets,
              (std::vector<std::uint64_t>{offsets[0], offsets[1], offsets[2], offsets[7], offsets[8], offsets[9]}));
}

TEST(RecordScan, AnyBytesEndSoon) {
    const auto began = std::chrono::steady_clock::now();
    bf::Rng rng(3);
    const Bytes good = made(40);
    for (int i = 0; i < 300; ++i) {
        Bytes bad = good;
        for (std::uint64_t n = rng.below(6) + 1; n > 0; --n)
            bad[rng.below(bad.size())] = static_cast<std::byte>(rng.bits());
        bad.erase(bad.end() - static_cast<std::ptrdiff_t>(rng.below(40)), bad.end());
        const Found found = scan(bad);
        EXPECT_GE(found.offsets.size() + 12, 40u);
        const bf::MemorySource source(bad, "bad");
        const bf::RecordReader reader(source);
        for (const std::uint64_t at : found.offsets) EXPECT_NO_THROW(reader.read(at));
    }
    for (const std::uint32_t flag : {0u, 1u, 2u, 3u}) {  // headers and nothing else
        Bytes headers(std::size_t{1} << 18);
        for (std::size_t at = 0; at < headers.size(); at += 8) {
            const std::uint32_t words[2] = {bf::record_magic, flag << 29};
            std::memcpy(headers.data() + at, words, 8);
        }
        EXPECT_EQ(scan(headers).offsets.size(), flag == 0 ? headers.size() / 8 : 0u);
    }
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(), 20);
}

std::vector<bf::RecordEntry> index_of(std::string_view text) {
    const Bytes bytes = bytes_of(text);
    return bf::read_record_index(bf::MemorySource(bytes, "made.idx"));
}

TEST(RecordIndex, LinesInAnyOrderAndWhatIsWrong) {
    auto e = index_of("7\t0\n0\t96\r\n4294967295\t8\n\n");
    ASSERT_EQ(e.size(), 3u);
    EXPECT_EQ(e[0].offset, 96u);
    EXPECT_EQ(e[2].key, 4294967295u);
    EXPECT_EQ(index_of("3\t12").size(), 1u);
    EXPECT_TRUE(index_of("").empty());
    std::string many;  // over the borders of the blocks that it is read in
    for (std::uint32_t i = 0; i < 200000; ++i) many += bf::index_line(i, std::uint64_t{i} * 1000);
    e = index_of(many);
    ASSERT_EQ(e.size(), 200000u);
    for (std::uint32_t i = 0; i < 200000; ++i)
        ASSERT_TRUE(e[i].key == i && e[i].offset == std::uint64_t{i} * 1000) << i;
    const auto wrong = [](std::string_view text, const char* part) {
        const std::string got = data_message([&] { index_of(text); });
        EXPECT_TRUE(has(got, part)) << got;
    };
    wrong("0\t0\n3\t12\n3\t40\n", "key 3 stands twice, with the offsets 12 and 40");
    wrong("0\t0\n1\n", "made.idx:2: not `key<TAB>offset`; got 1 (byte 4)");
    wrong("0\t0\n-1\t4\n", "made.idx:2");
    wrong("0\t0x10\n", "made.idx:1");
    wrong("0\t0\t0\n", "made.idx:1");
    wrong("4294967296\t0\n", "made.idx:1");
    wrong("0\t99999999999999999999\n", "made.idx:1");
    wrong("a\t0\n", "made.idx:1");
    wrong(std::string(3 << 20, '7'), "made.idx:1");
    wrong(std::string("\0\0\0\0", 4), "made.idx:1");
}

TEST(RecordIndex, RebuiltFromIdsOrFromTheOrder) {
    std::vector<std::uint64_t> offsets;
    Bytes data = made(4, &offsets);
    const auto keys = [&data] {
        const bf::MemorySource source(data, "made.rec");
        std::vector<std::pair<std::uint32_t, std::uint64_t>> all;
        std::uint64_t damaged = 0;
        for (const auto& e : bf::scan_records(bf::RecordReader(source), [&](const auto&) { ++damaged; }))
            all.emplace_back(e.key, e.offset);
        all.emplace_back(99, damaged);
        return all;
    };
    using Keys = decltype(keys());
    data[offsets[0] + 8 + 8] = std::byte{9};  // the id of the first record
    EXPECT_EQ(keys(), (Keys{{1, offsets[1]}, {2, offsets[2]}, {3, offsets[3]}, {9, 0}, {99, 0}}));
    data[offsets[0] + 8 + 8] = std::byte{2};  // an id that is there twice
    EXPECT_EQ(keys(), (Keys{{0, 0}, {1, offsets[1]}, {2, offsets[2]}, {3, offsets[3]}, {99, 0}}));
    bf::append_record(data, Bytes(3));  // no image header
    EXPECT_EQ(keys().size(), 5u);
    EXPECT_EQ(keys().back().second, 1u);
}

TEST(RecordSums, WholeOrRefused) {
    std::string text;
    {
        bf::RecordSumWriter writer([&](std::string_view part) { text += part; }, 1000, 3);
        for (std::uint32_t k : {1u, 5u, 6u}) writer.add({k * 8, k, k + 100, 2.0f, bf::RecordKind::image});
        writer.finish();
    }
    ASSERT_EQ(text.size(), 32u + 3 * 24 + 4);
    const auto read = [](const std::string& content, std::uint64_t size = 1000) {
        std::uint32_t sum = 0;
        const Bytes bytes = bytes_of(content);
        bf::read_record_sums(bf::MemorySource(bytes, "made.rec.sum"), size,
                             [&](const bf::RecordSum& s) { sum += s.crc; });
        return sum;
    };
    EXPECT_EQ(read(text), 312u);
    EXPECT_TRUE(
        has(data_message([&] { read(text, 1001); }), "made for a record file of 1000 bytes, and that has 1001"));
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::string bad = text;
        bad[i] = static_cast<char>(bad[i] ^ 4);
        EXPECT_TRUE(has(data_message([&] { read(bad); }), "bf index")) << i;
        EXPECT_TRUE(has(data_message([&] { read(text.substr(0, i)); }), "bf index")) << i;
    }
}

TEST(ImageRecordHeader, ScalarAndArray) {
    const float labels[3] = {5, 0.5f, 9};
    const Bytes scalar = bf::ImageRecordHeader::bytes(7, {}, 3, 4), array = bf::ImageRecordHeader::bytes(0, labels, 1);
    auto h = bf::ImageRecordHeader::parse(scalar, scalar.size(), "x");
    EXPECT_TRUE(h.identity() == 7 && h.id == 3 && h.id2 == 4 && h.size == 24);
    h = bf::ImageRecordHeader::parse(array, array.size(), "x");
    EXPECT_TRUE(h.identity() == 5 && h.labels[1] == 0.5f && h.size == 36 && h.flag == 3);
    h = bf::ImageRecordHeader::parse(std::span(array).first(32), array.size(), "x");
    EXPECT_TRUE(h.identity() == 5 && h.labels[1] == 0.5f && h.size == 36);
    EXPECT_TRUE(has(data_message([&] { bf::ImageRecordHeader::parse(std::span(array).first(20), 20, "x"); }),
                    "no image header"));
    Bytes hostile = scalar;
    hostile[3] = std::byte{0xff};
    EXPECT_TRUE(
        has(data_message([&] { bf::ImageRecordHeader::parse(hostile, hostile.size(), "x"); }), "labels in a record"));
    EXPECT_TRUE(bf::class_of(16777216.0f).has_value());
    for (const float bad : {-1.0f, 0.5f, 16777218.0f, std::nanf(""), INFINITY}) EXPECT_FALSE(bf::class_of(bad)) << bad;
}

}  // namespace

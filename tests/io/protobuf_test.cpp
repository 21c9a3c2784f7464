#include "bf/io/protobuf.hpp"

#include <gtest/gtest.h>

namespace {

using bf::ProtoReader;
using bf::ProtoWire;

bf::MemorySource source(const std::string& bytes) { return {std::as_bytes(std::span(bytes)), "m"}; }
std::string error_of(const std::string& bytes, const auto& f) {
    const bf::MemorySource s = source(bytes);
    try {
        f(ProtoReader(s));
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::data);
        return e.what();
    }
    return "no error";
}
std::string error_of(const std::string& bytes) {
    return error_of(bytes, [](ProtoReader r) {
        while (r.next()) continue;
    });
}

// The examples of protobuf.dev, "Encoding", and the widths at which a varint grows.
TEST(Protobuf, WritesWhatTheDocumentationShows) {
    bf::ProtoWriter w;
    w.varint(1, 150);
    EXPECT_EQ(w.take(), "\x08\x96\x01");
    w.bytes(2, "testing");
    EXPECT_EQ(w.take(), "\x12\x07testing");
    bf::ProtoWriter inner;
    inner.varint(1, 150);
    w.message(3, inner);
    EXPECT_EQ(w.take(), "\x1a\x03\x08\x96\x01");
    w.integer(1, -2);
    EXPECT_EQ(w.take(), "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    w.packed(6, std::vector<std::int64_t>{3, 270, 86942});
    EXPECT_EQ(w.take(), "\x32\x06\x03\x8e\x02\x9e\xa7\x05");
    w.fixed32(16, 1.0f);
    EXPECT_EQ(w.take(), std::string("\x85\x01\x00\x00\x80\x3f", 6));
    w.header(1, std::uint64_t{1} << 35);
    EXPECT_EQ(w.take(), "\x0a\x80\x80\x80\x80\x80\x01");
    EXPECT_EQ(w.size(), 0u);
}

TEST(Protobuf, ReadsBackEachKind) {
    bf::ProtoWriter w, inner;
    const std::vector<std::int64_t> numbers{0, -1, 127, 128, INT64_MAX, INT64_MIN};
    inner.bytes(1, std::string(1000, 'x'));  // longer than the reader's window
    inner.integer(2, 5);
    for (const std::int64_t n : numbers) w.integer(1, n);
    w.packed(1, numbers);
    w.fixed32(536870911, -0.5f);
    w.fixed64(4, 1e300);
    w.message(5, inner);
    w.packed(6, std::vector<double>{0.5, -2});
    const bf::MemorySource s = source(w.text());
    ProtoReader r(s);
    std::vector<std::int64_t> got;
    std::vector<double> reals;
    double single = 0, wide = 0;
    int seen = 0;
    while (const auto f = r.next()) {
        ++seen;
        if (f->number == 1) r.append(*f, got, 12);
        if (f->number == 536870911) single = r.f32(*f);
        if (f->number == 4) wide = r.f64(*f);
        if (f->number == 6) r.append(*f, reals, 2, true);
        if (f->number != 5) continue;
        ProtoReader below = r.message(*f);
        const auto text = below.next(), five = below.next();
        EXPECT_EQ(below.text(*text, 1000), std::string(1000, 'x'));
        EXPECT_EQ(below.integer(*five), 5);
        EXPECT_FALSE(below.next());
    }
    EXPECT_EQ(seen, 11);
    EXPECT_EQ(single, -0.5);
    EXPECT_EQ(wide, 1e300);
    EXPECT_EQ(reals, (std::vector<double>{0.5, -2}));
    std::vector<std::int64_t> twice = numbers;
    twice.insert(twice.end(), numbers.begin(), numbers.end());
    EXPECT_EQ(got, twice);
}

TEST(Protobuf, WhatIsDamagedIsSaidWithItsPlace) {
    const auto has = [](const std::string& text, const char* part) {
        EXPECT_NE(text.find(part), std::string::npos) << text << "\nwants: " << part;
    };
    has(error_of(std::string("\x00\x01", 2)), "m: field number 0 at byte 0");
    has(error_of("\x08\x01\x0b"), "wire type 3 of field 1 at byte 2");
    has(error_of("\x08\xff"), "middle of a field at byte 2");
    has(error_of("\x08" + std::string(10, '\xff') + "\x01"), "more than 64 bits at byte 1");
    has(error_of("\x08" + std::string(9, '\xff') + "\x02"), "more than 64 bits at byte 1");
    has(error_of("\x12\x08testing"), "has 8 bytes, but its message ends at byte 9");
    has(error_of("\x12" + std::string(9, '\xff') + "\x01"), "has 18446744073709551615 bytes");
    has(error_of("\x0d\x01\x02\x03"), "has 4 bytes, but its message ends at byte 4");
    has(error_of("\x12\x02\x08\xff\x08\x01",
                 [](ProtoReader r) {
                     const auto f = r.next();
                     r.message(*f).next();
                 }),
        "middle of a field at byte 4");  // the inner message ends there, whatever follows
    has(error_of("\x08\x01", [](ProtoReader r) { r.text(*r.next(), 10); }), "want text of at most 10 bytes");
    has(error_of("\x12\x02hi", [](ProtoReader r) { r.text(*r.next(), 1); }), "want text of at most 1 bytes");
    has(error_of("\x12\x02hi", [](ProtoReader r) { r.integer(*r.next()); }), "want a varint");
    has(error_of("\x12\x02\x01\x02",
                 [](ProtoReader r) {
                     std::vector<std::int64_t> out;
                     r.append(*r.next(), out, 1);
                 }),
        "want at most 1 numbers");
    has(error_of("\x12\x02hi",
                 [](ProtoReader r) {
                     std::vector<double> out;
                     r.append(*r.next(), out, 9, false);
                 }),
        "want numbers of 4 bytes");
}

}  // namespace

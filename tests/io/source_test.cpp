#include "bf/io/source.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "errors.hpp"

namespace {

std::vector<std::byte> counting(std::size_t n) {
    std::vector<std::byte> bytes(n);
    for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i);
    return bytes;
}

TEST(Source, FileAndMemoryGiveTheSame) {
    const auto path = std::filesystem::temp_directory_path() / ("bf_source_" + std::to_string(::getpid()));
    const std::vector<std::byte> bytes = counting(20);
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), 20);
    const bf::FileSource file(path);
    const bf::MemorySource memory(bytes, "memory");
    for (const bf::Source* s : {static_cast<const bf::Source*>(&file), static_cast<const bf::Source*>(&memory)}) {
        EXPECT_EQ(s->size(), 20u);
        EXPECT_EQ(s->number<std::uint32_t>(16), 0x13121110u);
        EXPECT_EQ(s->bytes(3, 2), (std::vector<std::byte>{std::byte{3}, std::byte{4}}));
        EXPECT_TRUE(s->bytes(20, 0).empty());
        EXPECT_NE(message([&] { s->number<std::uint32_t>(17); }).find("ends early at byte 20"), std::string::npos);
        EXPECT_NE(message([&] { s->bytes(1, ~std::uint64_t{0}); }).find("ends early"), std::string::npos);
        EXPECT_NE(message([&] { s->bytes(~std::uint64_t{0}, 1); }).find("ends early"), std::string::npos);
    }
    std::filesystem::resize_file(path, 10);
    EXPECT_NE(message([&] { file.bytes(8, 4); }).find("had 20 bytes when it was opened"), std::string::npos);
    std::filesystem::remove(path);
}

TEST(Source, WhatIsNoFileIsSaid) {
    EXPECT_NE(message([] { bf::FileSource("/nonexistent/x"); }).find("does the file exist"), std::string::npos);
    EXPECT_NE(message([] { bf::FileSource("/"); }).find("is not a file"), std::string::npos);
}

}  // namespace

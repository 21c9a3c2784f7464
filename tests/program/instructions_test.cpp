#include "instructions.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

using bf::program::missing_instructions;

TEST(Instructions, ThisMachineHasWhatThisBuildUses) {
    char text[512] = "";
    EXPECT_FALSE(missing_instructions(bf::program::instructions_needed, bf::program::processor_has, text, sizeof text))
        << text;
    for (const char* const* name = bf::program::instructions_needed; *name; ++name)
        EXPECT_TRUE(bf::program::processor_has(*name)) << *name;
}

TEST(Instructions, WhatIsMissingIsNamed) {
    const char* const needed[] = {"avx", "avx2", "avx512f", nullptr};
    char text[512] = "";
    const auto old = [](const char* name) { return std::string(name) == "avx"; };
    ASSERT_TRUE(missing_instructions(needed, old, text, sizeof text));
    const std::string message = text;
    EXPECT_NE(message.find("missing: avx2 and 1 more"), std::string::npos) << message;
    EXPECT_NE(message.find("cpu-portable"), std::string::npos) << message;
    const char* const none[] = {nullptr};
    EXPECT_FALSE(missing_instructions(none, old, text, sizeof text));
}

}  // namespace

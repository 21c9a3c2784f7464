#pragma once
#include <gtest/gtest.h>

#include <string>

#include "bf/base/error.hpp"

// What tests of errors share.

/// What the bf::Error that f() throws says; "no error" if it throws none.
inline std::string message(const auto& f) {
    try {
        f();
    } catch (const bf::Error& e) {
        return e.what();
    }
    return "no error";
}
/// The same of an Error that must be one of bad data.
inline std::string data_message(const auto& f) {
    return message([&f] {
        try {
            f();
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data) << e.what();
            throw;
        }
    });
}
inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

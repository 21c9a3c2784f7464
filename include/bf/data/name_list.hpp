#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// Names in one block of memory of at most 4 GiB.
class NameList {
  public:
    std::size_t size() const { return begin_.size() - 1; }
    std::string_view operator[](std::size_t i) const {
        return std::string_view(text_).substr(begin_[i], begin_[i + 1] - begin_[i]);
    }
    void add(std::string_view name) {
        BF_CHECK_DATA(text_.size() + name.size() <= std::numeric_limits<std::uint32_t>::max(), "names",
                      "take more than 4 GiB");
        text_ += name;
        begin_.push_back(static_cast<std::uint32_t>(text_.size()));
    }
    /// Room for `names` names of `bytes` bytes together.
    void reserve(std::uint64_t names, std::uint64_t bytes) {
        begin_.reserve(static_cast<std::size_t>(names) + 1);
        text_.reserve(static_cast<std::size_t>(bytes));
    }

  private:
    std::string text_;
    std::vector<std::uint32_t> begin_{0};
};

}  // namespace bf

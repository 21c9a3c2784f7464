#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>

#include "bf/base/error.hpp"

namespace bf {

/// Sizes of up to six dimensions, held in place. The empty shape is a scalar.
class Shape {
  public:
    static constexpr int max_rank = 6;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> dims) {
        for (auto d : dims) push_back(d);
    }

    int rank() const { return rank_; }
    /// Size of dimension i; negative i counts from the end.
    std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i < 0 ? i + rank_ : i)]; }
    std::int64_t& operator[](int i) { return dims_[static_cast<std::size_t>(i < 0 ? i + rank_ : i)]; }
    const std::int64_t* begin() const { return dims_.data(); }
    const std::int64_t* end() const { return dims_.data() + rank_; }

    void push_back(std::int64_t dim) {
        BF_CHECK(rank_ < max_rank, "shape", "too many dimensions; want at most ", max_rank);
        BF_CHECK(dim >= 0, "shape", "negative dimension; got ", dim);
        dims_[static_cast<std::size_t>(rank_++)] = dim;
    }
    /// Product of all dimensions (1 for a scalar).
    std::int64_t numel() const {
        std::int64_t n = 1;
        for (auto d : *this) n *= d;
        return n;
    }
    std::string str() const {
        std::string s = "[";
        for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
        return s + "]";
    }
    friend bool operator==(const Shape& a, const Shape& b) {
        if (a.rank_ != b.rank_) return false;
        for (int i = 0; i < a.rank_; ++i)
            if (a[i] != b[i]) return false;
        return true;
    }
    friend std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.str(); }

  private:
    std::array<std::int64_t, max_rank> dims_{};
    int rank_ = 0;
};

}  // namespace bf

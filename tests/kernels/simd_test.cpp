#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "bf/kernels/cpu_simd.hpp"
#include "bf/kernels/profile.hpp"
#include "bf/ops/conv.hpp"
#include "bf/ops/linalg.hpp"

namespace {

namespace cpu = bf::cpu;

template <class T>
class Simd : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Simd, Types);

TYPED_TEST(Simd, PartsOfVectors) {
    using T = TypeParam;
    constexpr auto n = cpu::lanes<T>;
    std::vector<T> in(static_cast<std::size_t>(2 * n)), out(in.size(), T(-1));
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<T>(i + 1);
    for (std::int64_t count = 0; count <= n + 1; ++count) {
        const auto v = cpu::load(in.data(), count);
        for (std::int64_t l = 0; l < n; ++l) EXPECT_EQ(v[l], l < count ? static_cast<T>(l + 1) : T(0)) << count;
        std::fill(out.begin(), out.end(), T(-1));
        cpu::store(out.data(), cpu::broadcast(T(7)), count);
        for (std::int64_t l = 0; l < n + 1; ++l)
            EXPECT_EQ(out[static_cast<std::size_t>(l)], l < std::min(count, n) ? T(7) : T(-1)) << count;
    }
}

// Whole numbers: every sum is exact, in whatever order.
TYPED_TEST(Simd, BlocksOfAnyNumberOfRows) {
    using T = TypeParam;
    constexpr auto cols = cpu::block_cols<T>;
    constexpr std::int64_t depth = 5, terms = 2;
    const auto value = [](std::int64_t i) { return static_cast<T>((i * 7 + 3) % 11 - 5); };
    for (std::int64_t rows = 0; rows <= 2 * cpu::block_rows + 1; ++rows)
        for (const bool turned : {false, true}) {
            const std::int64_t a_row = turned ? 1 : depth, a_step = turned ? rows : 1, size = rows * depth;
            std::vector<T> a(static_cast<std::size_t>(terms * size)), b(static_cast<std::size_t>(terms * depth * cols));
            for (std::size_t i = 0; i < a.size(); ++i) a[i] = value(static_cast<std::int64_t>(i));
            for (std::size_t i = 0; i < b.size(); ++i) b[i] = value(static_cast<std::int64_t>(i) + 4);
            const std::int64_t c_row = cols + 3;
            std::vector<T> c(static_cast<std::size_t>(rows * c_row + cols), T(100));
            const auto at = [&](std::int64_t t) {
                return std::pair<const T*, const T*>(a.data() + t * size, b.data() + t * depth * cols);
            };
            const cpu::BlockStrides strides{a_row, a_step, cols};
            cpu::multiply_block<false, T>(rows, terms, at, depth, strides, c.data(), c_row);
            cpu::multiply_block<true, T>(rows, 1, at, depth, strides, c.data(), c_row);
            for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t j = 0; j < c_row; ++j) {
                    T want = j < cols ? T(0) : T(100);
                    for (std::int64_t t = 0; j < cols && t < terms; ++t)
                        for (std::int64_t k = 0; k < depth; ++k)
                            want += static_cast<T>(t == 0 ? 2 : 1) *
                                    a[static_cast<std::size_t>(t * size + r * a_row + k * a_step)] *
                                    b[static_cast<std::size_t>((t * depth + k) * cols + j)];
                    ASSERT_EQ(c[static_cast<std::size_t>(r * c_row + j)], want) << rows << " " << r << " " << j;
                }
        }
}

// Vectors round as bf16(float) does, whatever the value.
TEST(Simd16, RoundsAsBf16Does) {
    std::vector<float> values;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 40503)
        values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    for (const std::uint32_t bits : {0x7F800000u, 0xFF800000u, 0x7F800001u, 0xFFFFFFFFu, 0x7F7FFFFFu, 0x3F808000u,
                                     0x3F818000u, 0x00008000u, 0x80000001u})
        values.push_back(std::bit_cast<float>(bits));
    std::vector<bf::bf16> narrow(values.size());
    cpu::copy_values(values.data(), static_cast<std::int64_t>(values.size()), narrow.data());
    std::vector<float> wide(values.size());
    cpu::copy_values(narrow.data(), static_cast<std::int64_t>(values.size()), wide.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(narrow[i].bits, bf::bf16(values[i]).bits) << i;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::uint32_t{narrow[i].bits} << 16) << i;
    }
}

TEST(KernelProfile, CountsCallsBytesAndOperations) {
    const bf::Var x(bf::Tensor::zeros({2, 16, 8, 8}, {.format = bf::Format::nhwc})),
        w(bf::Tensor::zeros({16, 16, 3, 3}));
    {
        bf::KernelProfile profile;
        bf::conv2d(x, w, {.pad = 1});
        bf::conv2d(x, w, {.pad = 1});
        bf::conv2d(x, w, {.stride = 2, .pad = 1});
        ASSERT_EQ(profile.rows().count("conv2d 16 3x3 @ 8"), 1u);
        const bf::KernelCost row = profile.rows().at("conv2d 16 3x3 @ 8");
        EXPECT_EQ(row.calls, 2);
        EXPECT_EQ(row.flop, 2 * 2.0 * 2 * 64 * 16 * 16 * 9);
        EXPECT_EQ(row.bytes, 2 * 4.0 * (2 * 16 * 64 * 2 + 16 * 16 * 9));
        EXPECT_GT(row.seconds, 0);
        EXPECT_EQ(profile.rows().at("conv2d 16 3x3 @ 8 / 2").calls, 1);
        EXPECT_THROW(bf::KernelProfile(), bf::Error);
        profile.clear();
        EXPECT_TRUE(profile.rows().empty());
    }
    bf::conv2d(x, w, {.pad = 1});  // measured by none
    const bf::KernelProfile another;
    EXPECT_TRUE(another.rows().empty());
}

}  // namespace

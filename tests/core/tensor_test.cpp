#include "bf/core/tensor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <new>

#include "bf/core/parallel.hpp"
#include "errors.hpp"

namespace {

using bf::DType;
using bf::Format;
using bf::Shape;
using bf::Tensor;

TEST(Tensor, ViewsShareStorage) {
    const Tensor t = Tensor::from<float>({0, 1, 2, 3, 4, 5}, {3, 2});
    const Tensor row = t.rows(1, 2);
    EXPECT_EQ(row.shape(), (Shape{1, 2}));
    EXPECT_EQ(row.data<float>()[0], 2);
    row.data<float>()[0] = 7;
    EXPECT_EQ(t.reshape({6}).data<float>()[2], 7);
    EXPECT_TRUE(row.shares_storage(t));
    EXPECT_FALSE(t.clone().shares_storage(t));
}

TEST(Tensor, ChannelRowsOfAnNhwcImage) {
    const Tensor t = Tensor::empty({2, 5, 3, 4}, {.format = Format::nhwc});
    EXPECT_EQ(t.channel_rows().shape(), (Shape{24, 5}));
    EXPECT_EQ(Tensor::empty({2, 5}).channel_rows().shape(), (Shape{2, 5}));
}

TEST(Tensor, ErrorsNameWhatWasGotAndWanted) {
    const Tensor t = Tensor::zeros({2, 3});
    EXPECT_NE(message([&] { t.reshape({4}); }).find("got [2, 3] f32 cpu, want [4]"), std::string::npos);
    EXPECT_NE(message([&] { t.data<double>(); }).find("got f32, want f64"), std::string::npos);
    EXPECT_NE(message([&] { t.rows(1, 9); }).find("[1, 9)"), std::string::npos);
    const std::string cuda = message([] { Tensor::empty({1}, {.device = {bf::DeviceType::cuda, 63}}); });
#ifdef BF_HAVE_CUDA
    EXPECT_NE(cuda.find("cuda:63"), std::string::npos) << cuda;
#else
    EXPECT_NE(cuda.find("BF_CUDA"), std::string::npos) << cuda;
#endif
}

TEST(Bf16, RoundsToNearestEven) {
    EXPECT_EQ(static_cast<float>(bf::bf16(1.0f)), 1.0f);
    EXPECT_EQ(bf::bf16(1.0f + 1.0f / 256).bits, bf::bf16(1.0f).bits);  // a tie goes to even
    EXPECT_EQ(bf::bf16(1.0f + 3.0f / 256).bits, bf::bf16(1.0f + 4.0f / 256).bits);
    EXPECT_TRUE(std::isnan(static_cast<float>(bf::bf16(std::numeric_limits<float>::quiet_NaN()))));
    EXPECT_TRUE(std::isinf(static_cast<float>(bf::bf16(std::numeric_limits<float>::max()))));
}

TEST(Allocator, ReusesBlocksAndCountsPeak) {
    auto& allocator = bf::cpu_allocator();
    { const Tensor warm = Tensor::empty({1000, 1000}); }
    const auto before = allocator.stats();
    allocator.reset_peak();
    { const Tensor again = Tensor::empty({1000, 1000}); }
    const auto after = allocator.stats();
    EXPECT_EQ(after.system_calls, before.system_calls);
    EXPECT_EQ(after.in_use, before.in_use);
    EXPECT_GE(after.peak, before.in_use + 4000000);
    EXPECT_LE(after.peak, before.in_use + 4500000);
}

TEST(ThreadPool, RunsEachTaskOnceAndNests) {
    bf::ThreadPool pool(3);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::atomic<int>> seen(37);
        pool.run(37, [&](std::int64_t i) { pool.run(2, [&](std::int64_t) { ++seen[static_cast<std::size_t>(i)]; }); });
        for (auto& s : seen) ASSERT_EQ(s, 2);
    }
}

TEST(ThreadPool, PiecesDoNotDependOnThreads) {
    std::vector<std::pair<std::int64_t, std::int64_t>> pieces(4);
    bf::parallel_for(31, 8, [&](std::int64_t b, std::int64_t e) { pieces[static_cast<std::size_t>(b / 8)] = {b, e}; });
    EXPECT_EQ(pieces.back(), (std::pair<std::int64_t, std::int64_t>{24, 31}));
}

TEST(ThreadPool, AnExceptionOfATaskReachesTheCaller) {
    bf::ThreadPool pool(3);
    for (int round = 0; round < 50; ++round) {
        std::atomic<int> done{0};
        EXPECT_THROW(pool.run(64,
                              [&](std::int64_t i) {
                                  if (i == 5) throw std::bad_alloc();
                                  ++done;
                              }),
                     std::bad_alloc);
        EXPECT_LT(done, 64);
        std::atomic<int> after{0};
        pool.run(64, [&](std::int64_t) { ++after; });  // the pool works on
        EXPECT_EQ(after, 64);
    }
}

}  // namespace

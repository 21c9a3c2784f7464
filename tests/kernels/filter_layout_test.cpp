#include "bf/math/filter_layout.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/kernels/dispatch.hpp"

namespace {

using bf::math::FilterShape;

/// Runs a functor as a device would: each index once, in an order that is not the natural one.
template <class F>
void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = n; i-- > 0;) f(i);
}
std::vector<float> draw(std::int64_t n) {
    bf::Rng rng(5);
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& x : v) x = rng.normal();
    return v;
}
std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

const FilterShape shapes[] = {{5, 3, 9, 8, 8}, {7, 4, 6, 7, 4}, {1, 1, 1, 8, 8}, {8, 3, 49, 8, 4}, {6, 1, 9, 6, 1}};

template <class T>
void check_krsc(const FilterShape& s) {
    const std::vector<float> w = draw(s.elements());
    std::vector<T> krsc(index(s.padded_elements()), T(std::numeric_limits<float>::quiet_NaN()));
    for_each(s.padded_elements(), bf::math::FilterToKrsc<T>{s, w.data(), krsc.data()});
    std::size_t at = 0;
    for (std::uint32_t o = 0; o < s.out_padded; ++o)
        for (std::uint32_t tap = 0; tap < s.taps; ++tap)
            for (std::uint32_t c = 0; c < s.in_padded; ++c, ++at) {
                const float want = o < s.out && c < s.in ? w[(o * s.in + c) * s.taps + tap] : 0.0f;
                ASSERT_EQ(static_cast<float>(krsc[at]), static_cast<float>(T(want))) << o << ' ' << tap << ' ' << c;
            }
    std::vector<float> back(w.size(), std::numeric_limits<float>::quiet_NaN());
    for_each(s.elements(), bf::math::FilterFromKrsc<T>{s, krsc.data(), back.data()});
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(back[i], static_cast<float>(T(w[i]))) << i;
}

TEST(FilterLayout, KrscAgreesWithALoopAndComesBack) {
    for (const FilterShape& s : shapes) {
        check_krsc<float>(s);
        check_krsc<bf::bf16>(s);
    }
}

TEST(FilterLayout, PaddingOfADifferentValueIsLeftOut) {
    const FilterShape s{2, 3, 4, 8, 8};
    std::vector<float> krsc(index(s.padded_elements()), -1.0f), w(index(s.elements()), 0.0f);
    for (std::uint32_t o = 0; o < s.out; ++o)
        for (std::uint32_t tap = 0; tap < s.taps; ++tap)
            for (std::uint32_t c = 0; c < s.in; ++c) krsc[(o * s.taps + tap) * s.in_padded + c] = 1.0f;
    for_each(s.elements(), bf::math::FilterFromKrsc<float>{s, krsc.data(), w.data()});
    for (const float v : w) EXPECT_EQ(v, 1.0f);
}

TEST(FilterLayout, ChannelsArePaddedWithZerosAndCroppedAgain) {
    const std::int64_t pixels = 7;
    const std::vector<float> x = draw(pixels * 3);
    std::vector<float> wide(index(pixels * 8), std::numeric_limits<float>::quiet_NaN()), back(x.size(), 0.0f);
    for_each(pixels * 8, bf::math::CopyChannels<float>{3, 8, x.data(), wide.data()});
    for (std::int64_t p = 0; p < pixels; ++p)
        for (std::int64_t c = 0; c < 8; ++c)
            EXPECT_EQ(wide[index(p * 8 + c)], c < 3 ? x[index(p * 3 + c)] : 0.0f) << p << ' ' << c;
    for_each(pixels * 3, bf::math::CopyChannels<float>{8, 3, wide.data(), back.data()});
    EXPECT_EQ(back, x);
}

/// The three passes as a GPU runs them: on channels padded to a multiple of 8, the results cropped.
TEST(FilterLayout, AConvolutionOfPaddedChannelsIsTheSame) {
    using bf::Format;
    using bf::Tensor;
    const bf::ConvGeometry g{2, 3, 6, 5, 10, 3, 2, 2, 1, 1};
    bf::ConvGeometry wide = g;
    wide.c_in = 8;
    wide.c_out = 16;
    bf::Rng rng(9);
    const auto make = [](const bf::Shape& shape, Format format) {
        return Tensor::empty(shape, {.dtype = bf::DType::f32, .format = format});
    };
    const auto random = [&](const bf::Shape& shape, Format format) {
        Tensor t = make(shape, format);
        for (float& v : t.span<float>()) v = rng.normal();
        return t;
    };
    const auto channels = [&](const Tensor& from, std::int64_t count) {
        Tensor to = make({from.dim(0), count, from.dim(2), from.dim(3)}, Format::nhwc);
        for_each(to.numel(), bf::math::CopyChannels<float>{from.dim(1), count, from.data<float>(), to.data<float>()});
        return to;
    };
    const auto expect_same = [](const Tensor& got, const Tensor& want) {
        ASSERT_EQ(got.shape(), want.shape());
        for (std::size_t i = 0; i < got.span<float>().size(); ++i)
            EXPECT_NEAR(got.span<float>()[i], want.span<float>()[i], 1e-4) << i;
    };
    const Tensor x = random({g.n, g.c_in, g.h, g.w}, Format::nhwc),
                 w = random({g.c_out, g.c_in, g.kernel_h, g.kernel_w}, Format::plain),
                 dy = random({g.n, g.c_out, g.h_out(), g.w_out()}, Format::nhwc);
    const Tensor y = make(dy.shape(), Format::nhwc), dx = make(x.shape(), Format::nhwc),
                 dw = make(w.shape(), Format::plain);
    bf::Context context;
    const auto direct = bf::ConvAlgorithm::direct;
    bf::cpu_table().conv2d(context, g, direct, x, w, y);
    bf::cpu_table().conv2d_dx(context, g, direct, dy, w, dx);
    bf::cpu_table().conv2d_dw(context, g, direct, x, dy, dw);

    // weights there and back: the kernels of the CPU want OIHW, of the padded sizes here
    const FilterShape there{10, 3, 6, 16, 8}, back{16, 8, 6, 16, 8};
    std::vector<float> krsc(index(there.padded_elements()));
    Tensor wide_w = make({16, 8, 3, 2}, Format::plain), wide_dw = make({16, 8, 3, 2}, Format::plain);
    for_each(there.padded_elements(), bf::math::FilterToKrsc<float>{there, w.data<float>(), krsc.data()});
    for_each(back.elements(), bf::math::FilterFromKrsc<float>{back, krsc.data(), wide_w.data<float>()});
    const Tensor wide_x = channels(x, 8), wide_dy = channels(dy, 16);
    const Tensor wide_y = make(wide_dy.shape(), Format::nhwc), wide_dx = make(wide_x.shape(), Format::nhwc);
    bf::cpu_table().conv2d(context, wide, direct, wide_x, wide_w, wide_y);
    bf::cpu_table().conv2d_dx(context, wide, direct, wide_dy, wide_w, wide_dx);
    bf::cpu_table().conv2d_dw(context, wide, direct, wide_x, wide_dy, wide_dw);
    expect_same(channels(wide_y, 10), y);
    expect_same(channels(wide_dx, 3), dx);
    Tensor cropped = make(w.shape(), Format::plain);
    for_each(back.padded_elements(), bf::math::FilterToKrsc<float>{back, wide_dw.data<float>(), krsc.data()});
    for_each(there.elements(), bf::math::FilterFromKrsc<float>{there, krsc.data(), cropped.data<float>()});
    expect_same(cropped, dw);
}

}  // namespace

#include "bf/math/filter_layout.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/core/dtype.hpp"

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

}  // namespace

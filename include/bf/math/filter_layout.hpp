#pragma once
#include <cstdint>

#include "bf/base/macros.hpp"

// Index functors that bring images and weights of a convolution into the layout a library wants, and back. One call
// handles one element of the destination, so that a device kernel and a loop of a test run the same lines.

namespace bf::math {

/// Sizes of a filter bank: weights [out, in, taps] (taps = kernel height * width), kept as KRSC with room for
/// out_padded filters of in_padded channels. 32 bits, because a division of 64 costs a GPU several times as much.
struct FilterShape {
    std::uint32_t out, in, taps, out_padded, in_padded;

    BF_HD std::int64_t elements() const { return std::int64_t{out} * in * taps; }
    BF_HD std::int64_t padded_elements() const { return std::int64_t{out_padded} * in_padded * taps; }
};

/// Element i of KRSC [out_padded, taps, in_padded] from OIHW weights in f32; what is padded becomes zero.
template <class To>
struct FilterToKrsc {
    FilterShape s;
    const float* w;
    To* krsc;

    BF_HD void operator()(std::int64_t i) const {
        const std::uint32_t at = static_cast<std::uint32_t>(i), c = at % s.in_padded, row = at / s.in_padded,
                            tap = row % s.taps, o = row / s.taps;
        krsc[i] = static_cast<To>(o < s.out && c < s.in ? w[(o * s.in + c) * s.taps + tap] : 0.0f);
    }
};

/// Element i of OIHW weights in f32 from KRSC [out_padded, taps, in_padded]; what was padded is left out.
template <class From>
struct FilterFromKrsc {
    FilterShape s;
    const From* krsc;
    float* w;

    BF_HD void operator()(std::int64_t i) const {
        const std::uint32_t at = static_cast<std::uint32_t>(i), tap = at % s.taps, row = at / s.taps, c = row % s.in,
                            o = row / s.in;
        w[i] = static_cast<float>(krsc[(o * s.taps + tap) * s.in_padded + c]);
    }
};

/// Element i of `to` [pixels, to_channels] from `from` [pixels, from_channels]: adds channels of zeros, or leaves the
/// last ones out.
template <class T>
struct CopyChannels {
    std::int64_t from_channels, to_channels;
    const T* from;
    T* to;

    BF_HD void operator()(std::int64_t i) const {
        const std::int64_t pixel = i / to_channels, c = i - pixel * to_channels;
        to[i] = c < from_channels ? from[pixel * from_channels + c] : T(0);
    }
};

}  // namespace bf::math

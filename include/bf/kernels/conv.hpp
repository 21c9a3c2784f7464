#pragma once
#include <cstdint>

namespace bf {

/// Sizes of a 2-d convolution. Square stride and padding.
struct ConvGeometry {
    std::int64_t n, c_in, h, w, c_out, kernel_h, kernel_w, stride, pad, groups;

    std::int64_t h_out() const { return (h + 2 * pad - kernel_h) / stride + 1; }
    std::int64_t w_out() const { return (w + 2 * pad - kernel_w) / stride + 1; }
    /// Multiply-accumulates of one pass.
    std::int64_t macs() const { return n * h_out() * w_out() * c_out * (c_in / groups) * kernel_h * kernel_w; }
};

/// Which way a convolution is computed. `winograd` (3x3, stride 1) needs a quarter of the multiplications and loses
/// about one decimal digit; `automatic` takes it in f32 where it is faster, and `direct` for everything else.
enum class ConvAlgorithm { automatic, direct, winograd };

}  // namespace bf

#pragma once
#include "bf/kernels/cpu_simd.hpp"
#include "bf/kernels/table.hpp"

namespace bf::cpu {

/// Patches of output pixels begin .. begin + count: of each the pixels under taps tap0 .. tap0 + taps, `in` channels
/// from `first` on; zeros for pixels outside of the image.
template <class S, class T>
void gather_patches(const ConvGeometry& g, const S* x, std::int64_t begin, std::int64_t count, std::int64_t tap0,
                    std::int64_t taps, std::int64_t first, std::int64_t in, T* patches) {
    const std::int64_t ho = g.h_out(), wo = g.w_out();
    std::int64_t n = begin / (ho * wo), oy = begin / wo % ho, ox = begin % wo;
    const bool whole_rows = tap0 % g.kernel_w == 0 && taps % g.kernel_w == 0 && in == g.c_in;
    for (std::int64_t r = 0; r < count; ++r) {
        const std::int64_t y0 = oy * g.stride - g.pad, x0 = ox * g.stride - g.pad;
        const S* image = x + n * g.h * g.w * g.c_in + first;
        if (whole_rows && x0 >= 0 && x0 + g.kernel_w <= g.w) {
            const std::int64_t run = g.kernel_w * in;
            for (std::int64_t ky = tap0 / g.kernel_w; ky < (tap0 + taps) / g.kernel_w; ++ky, patches += run)
                if (y0 + ky >= 0 && y0 + ky < g.h)
                    copy_values(image + ((y0 + ky) * g.w + x0) * g.c_in, run, patches);
                else
                    std::fill_n(patches, run, T(0));
        } else {
            for (std::int64_t tap = tap0; tap < tap0 + taps; ++tap, patches += in) {
                const std::int64_t y = y0 + tap / g.kernel_w, at = x0 + tap % g.kernel_w;
                if (y >= 0 && y < g.h && at >= 0 && at < g.w)
                    copy_values(image + (y * g.w + at) * g.c_in, in, patches);
                else
                    std::fill_n(patches, in, T(0));
            }
        }
        if (++ox == wo) {
            ox = 0;
            if (++oy == ho) oy = 0, ++n;
        }
    }
}

}  // namespace bf::cpu

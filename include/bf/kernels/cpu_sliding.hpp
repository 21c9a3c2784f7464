#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "bf/kernels/cpu_simd.hpp"
#include "bf/kernels/table.hpp"

// CPU: images copied with zeros around them into planes, in which the values under one tap of a kernel are the same
// rows for each tap, only shifted.

namespace bf::cpu {

/// A pass as sums of shifted planes. The input has one plane for each remainder of its rows and columns by in_step; the
/// output has sets of pixels, each of which meets some taps.
struct Sliding {
    struct Plane {
        std::int64_t y, x;  ///< pixel of the input at its first place; negative: zeros before the image
    };
    struct Tap {
        std::int64_t plane, y, x;  ///< where the output's first pixel meets the plane
        std::int64_t index;        ///< in the kernel
    };
    struct Set {
        std::int64_t y, x, rows, cols;
        std::vector<Tap> taps;
    };
    std::int64_t n, h, w, channels;           ///< input
    std::int64_t out_h, out_w, out_channels;  ///< output
    std::int64_t in_step, out_step;           ///< pixels between places of a plane, between pixels of a set
    std::vector<Plane> planes;
    std::vector<Set> sets;
    std::int64_t rows = 0, cols = 0;      ///< of the largest set
    std::int64_t span_y = 0, span_x = 0;  ///< rows and columns that a plane has more than the sets
    std::int64_t shared = 0;              ///< zeros behind an image's row that are those before the next

    std::int64_t width() const { return cols + span_x - shared; }
    std::int64_t plane_count() const { return static_cast<std::int64_t>(planes.size()); }

    void finish() {
        for (const Set& s : sets) {
            rows = std::max(rows, s.rows);
            cols = std::max(cols, s.cols);
            for (const Tap& t : s.taps) span_y = std::max(span_y, t.y), span_x = std::max(span_x, t.x);
        }
        if (in_step == 1 && planes.size() == 1)
            shared = std::clamp<std::int64_t>(std::min(-planes[0].x, planes[0].x + cols + span_x - w), 0, span_x);
    }
};

/// Images of a 1x1 convolution as one: its pixels need no neighbours.
inline ConvGeometry joined(ConvGeometry g) {
    if (g.kernel_h != 1 || g.kernel_w != 1 || g.stride != 1 || g.pad != 0) return g;
    g.h *= g.n;
    g.n = 1;
    return g;
}

inline Sliding slide_forward(const ConvGeometry& g) {
    Sliding s{.n = g.n,
              .h = g.h,
              .w = g.w,
              .channels = g.c_in,
              .out_h = g.h_out(),
              .out_w = g.w_out(),
              .out_channels = g.c_out,
              .in_step = g.stride,
              .out_step = 1,
              .planes = {},
              .sets = {}};
    const std::int64_t down = std::min(g.stride, g.kernel_h), across = std::min(g.stride, g.kernel_w);
    for (std::int64_t a = 0; a < down; ++a)
        for (std::int64_t b = 0; b < across; ++b) s.planes.push_back({a - g.pad, b - g.pad});
    s.sets.push_back({0, 0, s.out_h, s.out_w, {}});
    for (std::int64_t y = 0; y < g.kernel_h; ++y)
        for (std::int64_t x = 0; x < g.kernel_w; ++x)
            s.sets[0].taps.push_back(
                {y % g.stride * across + x % g.stride, y / g.stride, x / g.stride, y * g.kernel_w + x});
    s.finish();
    return s;
}

/// Of the input gradient: pixels of dx that leave the same remainders by the stride meet the same taps.
inline Sliding slide_backward(const ConvGeometry& g) {
    Sliding s{.n = g.n,
              .h = g.h_out(),
              .w = g.w_out(),
              .channels = g.c_out,
              .out_h = g.h,
              .out_w = g.w,
              .out_channels = g.c_in,
              .in_step = 1,
              .out_step = g.stride,
              .planes = {{0, 0}},
              .sets = {}};
    for (std::int64_t y0 = 0; y0 < std::min(g.stride, g.h); ++y0)
        for (std::int64_t x0 = 0; x0 < std::min(g.stride, g.w); ++x0) {
            Sliding::Set set{y0, x0, (g.h - y0 + g.stride - 1) / g.stride, (g.w - x0 + g.stride - 1) / g.stride, {}};
            for (std::int64_t tap = 0; tap < g.kernel_h * g.kernel_w; ++tap) {
                const std::int64_t y = y0 + g.pad - tap / g.kernel_w, x = x0 + g.pad - tap % g.kernel_w;
                if (y % g.stride == 0 && x % g.stride == 0) set.taps.push_back({0, y / g.stride, x / g.stride, tap});
            }
            s.sets.push_back(std::move(set));
        }
    Sliding::Plane& first = s.planes[0];
    for (const auto& set : s.sets)
        for (const auto& t : set.taps) first = {std::min(first.y, t.y), std::min(first.x, t.x)};
    for (auto& set : s.sets)
        for (auto& t : set.taps) t.y -= first.y, t.x -= first.x;
    s.finish();
    return s;
}

/// Rows [begin, end) of the sets in `images` images from `first` on. The images lie side by side: place (row * images +
/// image) * width + column.
struct Strip {
    std::int64_t first, images, begin, end;

    std::int64_t places(const Sliding& s) const { return (end - begin) * images * s.width(); }
    /// Of a plane, which has more rows, and zeros behind its last.
    std::int64_t plane_places(const Sliding& s) const { return places(s) + s.span_y * images * s.width() + s.span_x; }
};
/// All rows of all images in strips of at most about `places`, at least a row of an image.
inline std::vector<Strip> strips_of(const Sliding& s, std::int64_t places) {
    if (s.n * s.rows * s.cols == 0) return {};
    const std::int64_t whole = (s.rows + s.span_y) * s.width(),
                       images = std::clamp<std::int64_t>(places / whole, 1, s.n),
                       most = std::clamp<std::int64_t>(places / s.width() - s.span_y, 1, s.rows),
                       cuts = images > 1 ? 1 : (s.rows + most - 1) / most, rows = (s.rows + cuts - 1) / cuts;
    std::vector<Strip> strips;
    for (std::int64_t n = 0; n < s.n; n += images)
        for (std::int64_t y = 0; y < s.rows; y += rows)
            strips.push_back({n, std::min(images, s.n - n), y, std::min(y + rows, s.rows)});
    return strips;
}

/// The planes of a strip, channels [channel, channel + count) of x: `stride` places each, zeros behind the last.
inline void fill_planes(const Sliding& s, const Strip& strip, const bf16* x, std::int64_t channel, std::int64_t count,
                        std::int64_t stride, bf16* to) {
    const std::int64_t width = s.width();
    for (const Sliding::Plane& plane : s.planes) {
        bf16* const end = to + stride * count;
        // columns of the plane that lie inside of the image
        const std::int64_t from = std::clamp<std::int64_t>((s.in_step - 1 - plane.x) / s.in_step, 0, width),
                           upto = std::clamp<std::int64_t>((s.w - plane.x + s.in_step - 1) / s.in_step, from, width);
        for (std::int64_t i = strip.begin; i < strip.end + s.span_y; ++i)
            for (std::int64_t n = strip.first; n < strip.first + strip.images; ++n, to += width * count) {
                const std::int64_t y = plane.y + i * s.in_step;
                if (y < 0 || y >= s.h) {
                    std::fill_n(to, width * count, bf16());
                    continue;
                }
                const bf16* pixel = x + ((n * s.h + y) * s.w + plane.x + from * s.in_step) * s.channels + channel;
                std::fill_n(to, from * count, bf16());
                if (s.in_step == 1 && count == s.channels)
                    copy_values(pixel, (upto - from) * count, to + from * count);
                else
                    for (std::int64_t j = from; j < upto; ++j, pixel += s.in_step * s.channels)
                        copy_values(pixel, count, to + j * count);
                std::fill_n(to + upto * count, (width - upto) * count, bf16());
            }
        std::fill(to, end, bf16());
        to = end;
    }
}

}  // namespace bf::cpu

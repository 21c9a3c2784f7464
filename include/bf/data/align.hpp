#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/image.hpp"

// Face alignment as the field does it (InsightFace face_align.py): five landmarks are carried onto a template by the
// least-squares similarity, and the image is warped by it.

namespace bf {

/// A place in an image, in pixels; pixel centres lie at whole numbers.
struct Point {
    double x = 0, y = 0;
};

/// Left eye, right eye, nose, left and right corner of the mouth; left and right as seen in the image.
using Landmarks = std::array<Point, 5>;

/// A 2 x 3 matrix, row major: (x, y) goes to (m0 x + m1 y + m2, m3 x + m4 y + m5).
using Affine = std::array<double, 6>;

/// Rotation, uniform scale and shift: (x, y) goes to (a x - b y + tx, b x + a y + ty).
struct Similarity {
    double a = 1, b = 0, tx = 0, ty = 0;

    Affine matrix() const { return {a, -b, tx, b, a, ty}; }
    Point operator()(Point p) const { return {a * p.x - b * p.y + tx, b * p.x + a * p.y + ty}; }
};

/// InsightFace's five target points for a crop of width x height: a square of a multiple of 112, else of 128 pixels, or
/// a crop of 96 x 112 (SphereFace) and its multiples.
inline Landmarks face_template(int width, int height) {
    Landmarks points{
        {{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041}}};
    const bool by_112 = height > 0 && height % 112 == 0, narrow = by_112 && width * 112 == height * 96,
               by_128 = !by_112 && height > 0 && height % 128 == 0;
    BF_CHECK((width == height && (by_112 || by_128)) || narrow, "face_template", "size; got ", width, " x ", height,
             ", want a square of a multiple of 112 or 128, or 96 x 112 and its multiples");
    const double scale = by_128 ? height / 128.0 : height / 112.0, shift = by_128 ? 8 * scale : narrow ? -8 * scale : 0;
    for (Point& p : points) p = {p.x * scale + shift, p.y * scale};
    return points;
}

/// Five points of the 68 of iBUG 300-W: eyes as the mean of their corners (36 and 39, 42 and 45), nose tip 30, corners
/// of the mouth 48 and 54.
inline Landmarks five_of_68(std::span<const Point> p) {
    BF_CHECK(p.size() == 68, "landmarks", "points; got ", p.size(), ", want 68");
    const auto mean = [&](std::size_t i, std::size_t j) { return Point{(p[i].x + p[j].x) / 2, (p[i].y + p[j].y) / 2}; };
    return {mean(36, 39), mean(42, 45), p[30], p[48], p[54]};
}

/// The similarity that carries `landmarks` onto `target` with the least sum of squares, without reflection (Umeyama
/// 1991 with det(R) = +1; closed form in two dimensions). A data Error where there is none: points that are not finite,
/// or that all lie in one place.
inline Similarity estimate_similarity(const Landmarks& landmarks, const Landmarks& target) {
    Point from, to;
    for (std::size_t i = 0; i < 5; ++i) {
        from.x += landmarks[i].x / 5;
        from.y += landmarks[i].y / 5;
        to.x += target[i].x / 5;
        to.y += target[i].y / 5;
    }
    double spread = 0, dot = 0, cross = 0, size = 0;
    for (std::size_t i = 0; i < 5; ++i) {
        const double px = landmarks[i].x - from.x, py = landmarks[i].y - from.y, qx = target[i].x - to.x,
                     qy = target[i].y - to.y;
        spread += px * px + py * py;
        dot += px * qx + py * qy;
        cross += px * qy - py * qx;
        size += landmarks[i].x * landmarks[i].x + landmarks[i].y * landmarks[i].y;
    }
    BF_CHECK_DATA(std::isfinite(spread) && std::isfinite(size), "landmarks", "are not finite numbers");
    // what rounding leaves of equal points counts as equal
    BF_CHECK_DATA(spread > 1e-24 * size && spread > 0, "landmarks", "all lie in one place: (", landmarks[0].x, ", ",
                  landmarks[0].y, ")");
    Similarity s{dot / spread, cross / spread, 0, 0};
    BF_CHECK_DATA(s.a * s.a + s.b * s.b > 1e-18, "landmarks",
                  "fit no rotation of the template; hint: is the order left "
                  "eye, right eye, nose, left and right corner of the mouth?");
    s.tx = to.x - (s.a * from.x - s.b * from.y);
    s.ty = to.y - (s.b * from.x + s.a * from.y);
    return s;
}

/// The inverse of an affine map; a data Error if there is none.
inline Affine inverse(const Affine& m) {
    const double determinant = m[0] * m[4] - m[1] * m[3];
    BF_CHECK_DATA(std::isfinite(1 / determinant), "warp", "the matrix has no inverse");
    const double scale = 1 / determinant;
    Affine out{m[4] * scale, m[1] * -scale, 0, m[3] * -scale, m[0] * scale, 0};
    out[2] = -out[0] * m[2] - out[1] * m[5];
    out[5] = -out[3] * m[2] - out[4] * m[5];
    return out;
}

/// How source coordinates and weights are rounded.
enum class WarpMode {
    exact,   ///< not at all
    opencv,  ///< as cv::warpAffine of OpenCV 2 to 4 with INTER_LINEAR: coordinates to 1/32 pixel in fixed-point steps
};

namespace detail {
/// Rounds half to even into int, as OpenCV's saturate_cast<int>.
inline std::int64_t round_to_int(double v) {
    return static_cast<std::int64_t>(std::nearbyint(std::clamp(v, -2147483648.0, 2147483647.0)));
}

/// The pixel at (x, y), black outside.
inline const std::uint8_t* tap(const Image& image, std::int64_t x, std::int64_t y) {
    static constexpr std::uint8_t black[4] = {};
    return x >= 0 && y >= 0 && x < image.width && y < image.height ? image.at(static_cast<int>(x), static_cast<int>(y))
                                                                   : black;
}
}  // namespace detail

/// The image seen through `forward`, which maps source to output: each output pixel takes the bilinear value at the
/// place that maps to it; outside the image is black.
inline Image warp(const Image& image, const Affine& forward, int width, int height, WarpMode mode = WarpMode::exact) {
    BF_CHECK(
        image.width > 0 && image.height > 0 && (image.channels == 1 || image.channels == 3) && width > 0 && height > 0,
        "warp", "sizes; got ", image.width, " x ", image.height, " (", image.channels, " channels) to ", width, " x ",
        height);
    const Affine m = inverse(forward);
    Image out(width, height, image.channels);
    const std::size_t channels = static_cast<std::size_t>(image.channels);
    // four taps around (x, y), none of them looked up when all lie outside
    const auto taps = [&](std::int64_t x, std::int64_t y, std::array<const std::uint8_t*, 4>& at) {
        if (x < -1 || y < -1 || x >= image.width || y >= image.height) return false;
        at = {detail::tap(image, x, y), detail::tap(image, x + 1, y), detail::tap(image, x, y + 1),
              detail::tap(image, x + 1, y + 1)};
        return true;
    };
    std::array<const std::uint8_t*, 4> p{};
    if (mode == WarpMode::exact) {
        for (int v = 0; v < height; ++v)
            for (int u = 0; u < width; ++u) {
                const double sx = m[0] * u + m[1] * v + m[2], sy = m[3] * u + m[4] * v + m[5];
                if (!(sx > -1 && sy > -1 && sx < image.width && sy < image.height)) continue;
                const double left = std::floor(sx), top = std::floor(sy);
                taps(static_cast<std::int64_t>(left), static_cast<std::int64_t>(top), p);
                const auto fx = static_cast<float>(sx - left), fy = static_cast<float>(sy - top);
                for (std::size_t c = 0; c < channels; ++c) {
                    const float a = static_cast<float>(p[0][c]), b = static_cast<float>(p[1][c]),
                                d = static_cast<float>(p[2][c]), e = static_cast<float>(p[3][c]);
                    const float upper = a + fx * (b - a), lower = d + fx * (e - d);
                    out.at(u, v)[c] = static_cast<std::uint8_t>(upper + fy * (lower - upper) + 0.5f);
                }
            }
        return out;
    }
    // OpenCV: steps along a row and its start are rounded to 1/1024 pixel, their sum to 1/32
    constexpr double scale = 1024;
    std::vector<std::int64_t> step_x(static_cast<std::size_t>(width)), step_y(static_cast<std::size_t>(width));
    for (int u = 0; u < width; ++u) {
        step_x[static_cast<std::size_t>(u)] = detail::round_to_int(m[0] * u * scale);
        step_y[static_cast<std::size_t>(u)] = detail::round_to_int(m[3] * u * scale);
    }
    for (int v = 0; v < height; ++v) {
        const std::int64_t x0 = detail::round_to_int((m[1] * v + m[2]) * scale) + 16,
                           y0 = detail::round_to_int((m[4] * v + m[5]) * scale) + 16;
        for (int u = 0; u < width; ++u) {
            const std::int64_t x = (x0 + step_x[static_cast<std::size_t>(u)]) >> 5,
                               y = (y0 + step_y[static_cast<std::size_t>(u)]) >> 5;
            if (!taps(x >> 5, y >> 5, p)) continue;
            const int fx = static_cast<int>(x & 31), fy = static_cast<int>(y & 31);
            const int w0 = (32 - fx) * (32 - fy), w1 = fx * (32 - fy), w2 = (32 - fx) * fy, w3 = fx * fy;
            for (std::size_t c = 0; c < channels; ++c)
                out.at(u, v)[c] =
                    static_cast<std::uint8_t>((w0 * p[0][c] + w1 * p[1][c] + w2 * p[2][c] + w3 * p[3][c] + 512) >> 10);
        }
    }
    return out;
}

/// The crop of width x height that InsightFace's norm_crop cuts out for these landmarks.
inline Image align_face(const Image& image, const Landmarks& landmarks, int width = 112, int height = 112,
                        WarpMode mode = WarpMode::exact) {
    return warp(image, estimate_similarity(landmarks, face_template(width, height)).matrix(), width, height, mode);
}

}  // namespace bf

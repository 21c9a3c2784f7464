#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "bf/data/image.hpp"

namespace bf::synthetic {

/// Linear RGB in 0..1.
struct Colour {
    float r = 0, g = 0, b = 0;

    friend Colour operator+(Colour a, Colour c) { return {a.r + c.r, a.g + c.g, a.b + c.b}; }
    friend Colour operator*(float s, Colour c) { return {s * c.r, s * c.g, s * c.b}; }
    friend Colour operator*(Colour a, Colour c) { return {a.r * c.r, a.g * c.g, a.b * c.b}; }
};
inline Colour mix(Colour a, Colour b, float t) { return (1 - t) * a + t * b; }

/// Smooth 0..1 step across an edge one pixel wide: d is a signed distance in pixels, negative inside.
inline float coverage(float d) {
    const float t = std::clamp(0.5f - d, 0.0f, 1.0f);
    return t * t * (3 - 2 * t);
}

struct Point {
    float x = 0, y = 0;
};

/// A float picture that shapes are painted on. Coordinates are pixels; every shape touches its bounding box only.
class Canvas {
  public:
    explicit Canvas(int size) : size_(size), pixels_(static_cast<std::size_t>(size * size)) {}

    int size() const { return size_; }
    Colour& at(int x, int y) { return pixels_[static_cast<std::size_t>(y * size_ + x)]; }

    /// paint(x, y) -> {colour, alpha} over the box around centre with the given reach.
    template <class F>
    void box(Point centre, float reach_x, float reach_y, F&& paint) {
        const int x0 = std::max(0, static_cast<int>(centre.x - reach_x - 1)),
                  y0 = std::max(0, static_cast<int>(centre.y - reach_y - 1));
        const int x1 = std::min(size_ - 1, static_cast<int>(centre.x + reach_x + 2)),
                  y1 = std::min(size_ - 1, static_cast<int>(centre.y + reach_y + 2));
        for (int y = y0; y <= y1; ++y)
            for (int x = x0; x <= x1; ++x) {
                const auto [colour, alpha] = paint(static_cast<float>(x), static_cast<float>(y));
                if (alpha > 0) at(x, y) = mix(at(x, y), colour, alpha);
            }
    }
    struct Paint {
        Colour colour;
        float alpha;
    };

    /// A filled ellipse with half axes rx, ry, turned by `angle`; `soft` widens the edge (pixels).
    void ellipse(Point c, float rx, float ry, float angle, Colour colour, float alpha = 1, float soft = 1) {
        const float ca = std::cos(angle), sa = std::sin(angle), reach = std::max(rx, ry) + soft;
        rx = std::max(rx, 0.3f);
        ry = std::max(ry, 0.3f);
        box(c, reach, reach, [&](float x, float y) {
            const float u = ((x - c.x) * ca + (y - c.y) * sa) / rx, v = (-(x - c.x) * sa + (y - c.y) * ca) / ry;
            const float r = std::sqrt(u * u + v * v);
            return Paint{colour, alpha * coverage((r - 1) * std::min(rx, ry) / soft)};
        });
    }
    /// A curved stroke from a to b through a control point, thickness tapering to `taper` of itself at the ends.
    void stroke(Point a, Point control, Point b, float thickness, float taper, Colour colour, float alpha = 1) {
        constexpr int pieces = 8;
        std::array<Point, pieces + 1> line;
        for (int i = 0; i <= pieces; ++i) {
            const float t = static_cast<float>(i) / pieces, s = 1 - t;
            line[static_cast<std::size_t>(i)] = {s * s * a.x + 2 * s * t * control.x + t * t * b.x,
                                                 s * s * a.y + 2 * s * t * control.y + t * t * b.y};
        }
        const Point c{(a.x + b.x + control.x) / 3, (a.y + b.y + control.y) / 3};
        float reach = 0;
        for (const Point& p : line) reach = std::max({reach, std::abs(p.x - c.x), std::abs(p.y - c.y)});
        reach += thickness;
        box(c, reach, reach, [&](float x, float y) {
            float best = 1e9f, along = 0;
            for (int i = 0; i < pieces; ++i) {
                const Point p = line[static_cast<std::size_t>(i)], q = line[static_cast<std::size_t>(i + 1)];
                const float dx = q.x - p.x, dy = q.y - p.y, length = dx * dx + dy * dy + 1e-6f;
                const float t = std::clamp(((x - p.x) * dx + (y - p.y) * dy) / length, 0.0f, 1.0f);
                const float ex = x - p.x - t * dx, ey = y - p.y - t * dy, d = ex * ex + ey * ey;
                if (d < best) {
                    best = d;
                    along = (static_cast<float>(i) + t) / pieces;
                }
            }
            const float middle = 4 * along * (1 - along), half = 0.5f * thickness * (taper + (1 - taper) * middle);
            return Paint{colour, alpha * coverage(std::sqrt(best) - half)};
        });
    }
    /// A turned rectangle with half sides hx, hy.
    void rectangle(Point c, float hx, float hy, float angle, Colour colour, float alpha = 1) {
        const float ca = std::cos(angle), sa = std::sin(angle), reach = hx + hy;
        box(c, reach, reach, [&](float x, float y) {
            const float u = std::abs((x - c.x) * ca + (y - c.y) * sa) - hx,
                        v = std::abs(-(x - c.x) * sa + (y - c.y) * ca) - hy;
            return Paint{colour, alpha * coverage(std::max(u, v))};
        });
    }
    /// Blurs by a box of width 2 radius + 1 along both axes, twice (close to a Gaussian).
    void blur(float sigma) {
        const int radius = static_cast<int>(sigma + 0.5f);
        if (radius < 1) return;
        std::vector<Colour> line(static_cast<std::size_t>(size_));
        for (int pass = 0; pass < 2; ++pass)
            for (int axis = 0; axis < 2; ++axis)
                for (int k = 0; k < size_; ++k) {
                    for (int i = 0; i < size_; ++i) {
                        Colour sum;
                        for (int d = -radius; d <= radius; ++d) {
                            const int j = std::clamp(i + d, 0, size_ - 1);
                            sum = sum + (axis ? at(k, j) : at(j, k));
                        }
                        line[static_cast<std::size_t>(i)] = (1.0f / static_cast<float>(2 * radius + 1)) * sum;
                    }
                    for (int i = 0; i < size_; ++i) (axis ? at(k, i) : at(i, k)) = line[static_cast<std::size_t>(i)];
                }
    }
    /// 8-bit RGB; grain(pixel index) is added to the three channels of a pixel.
    template <class Grain>
    Image finish(float gamma, Grain&& grain) const {
        Image image(size_, size_);
        for (std::size_t i = 0; i < pixels_.size(); ++i) {
            const auto g = grain(i);
            const float v[3] = {pixels_[i].r, pixels_[i].g, pixels_[i].b};
            for (std::size_t c = 0; c < 3; ++c) {
                const float x = std::clamp(v[c], 0.0f, 1.0f);
                // x^gamma near gamma 1 by its expansion: cheap, monotone for the range used
                const float shaped = x * (1 + (gamma - 1) * (x - 1) * (1.6f - 0.6f * x));
                image.pixels[3 * i + c] = static_cast<std::uint8_t>(std::clamp(255 * shaped + g[c], 0.0f, 255.0f));
            }
        }
        return image;
    }

  private:
    int size_;
    std::vector<Colour> pixels_;
};

}  // namespace bf::synthetic

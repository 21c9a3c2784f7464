#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "bf/data/image.hpp"

namespace bf {

/// How pixels between pixels are made. `triangle` averages over an area as large as the step when it shrinks (Pillow's
/// BILINEAR), so that fine detail does not alias; the others are OpenCV's resize, which differ in what they alias.
enum class Interpolation { triangle, nearest, linear, area, cubic, lanczos4 };

namespace resizing {

/// For each output pixel of a line: the first input pixel, and `count` weights from it on.
struct Taps {
    int from = 0, to = 0, count = 0;
    Interpolation kind{};
    std::vector<int> first;
    std::vector<float> weight;  ///< [to, count]
};

/// Calls tap(input pixel, weight) for what makes output pixel i; input pixels may lie outside.
template <class F>
void visit_taps(int from, int to, Interpolation kind, int i, F&& tap) {
    const double exact = 1 / (static_cast<double>(to) / from);  // rounds as OpenCV does where a pixel ends at i
    const float step = static_cast<float>(from) / static_cast<float>(to);
    const float centre = (static_cast<float>(i) + 0.5f) * step - 0.5f;
    const int left = static_cast<int>(std::floor(centre));
    const float part = centre - static_cast<float>(left);
    if (kind == Interpolation::triangle) {
        const float reach = std::max(1.0f, step);
        const int begin = std::max(0, static_cast<int>(std::ceil(centre - reach + 1e-4f)));
        const int end = std::min(from - 1, static_cast<int>(std::floor(centre + reach - 1e-4f)));
        for (int k = begin; k <= end; ++k) tap(k, std::max(0.0f, 1 - std::abs(static_cast<float>(k) - centre) / reach));
    } else if (kind == Interpolation::nearest) {
        tap(static_cast<int>(i * exact), 1.0f);
    } else if (kind == Interpolation::area && from >= to) {  // the part of each pixel that lies under this one
        const double begin = static_cast<double>(i) * from / to, end = static_cast<double>(i + 1) * from / to;
        for (int k = static_cast<int>(begin); k < end - 1e-9; ++k)
            tap(k, static_cast<float>(std::min<double>(end, k + 1) - std::max<double>(begin, k)));
    } else if (kind == Interpolation::area) {  // growing: steps with a slope as wide as one output pixel
        const int k = static_cast<int>(i * exact);
        float next = static_cast<float>((i + 1) - (k + 1) / exact);
        next = next <= 0 ? 0 : next - std::floor(next);
        tap(k, 1 - next);
        tap(k + 1, next);
    } else if (kind == Interpolation::linear) {
        tap(left, 1 - part);
        tap(left + 1, part);
    } else if (kind == Interpolation::cubic) {  // Keys' kernel with a = -0.75
        for (int k = -1; k <= 2; ++k) {
            constexpr float a = -0.75f;
            const float t = std::abs(static_cast<float>(k) - part);
            tap(left + k, t < 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a);
        }
    } else {
        for (int k = -3; k <= 4; ++k) {
            const double t = 3.14159265358979323846 * (static_cast<double>(k) - static_cast<double>(part));
            tap(left + k, std::abs(t) < 1e-6 ? 1.0f : static_cast<float>(std::sin(t) * std::sin(t / 4) * 4 / (t * t)));
        }
    }
}

inline Taps make_taps(int from, int to, Interpolation kind) {
    Taps taps{from, to, 1, kind, std::vector<int>(static_cast<std::size_t>(to)), {}};
    const auto inside = [from](int k) { return std::clamp(k, 0, from - 1); };  // edges are repeated
    for (int i = 0; i < to; ++i) {
        int low = from, high = 0;
        visit_taps(from, to, kind, i, [&](int k, float) {
            low = std::min(low, inside(k));
            high = std::max(high, inside(k));
        });
        taps.first[static_cast<std::size_t>(i)] = low;
        taps.count = std::max(taps.count, high - low + 1);
    }
    taps.weight.resize(static_cast<std::size_t>(to) * static_cast<std::size_t>(taps.count));
    for (int i = 0; i < to; ++i) {
        int& first = taps.first[static_cast<std::size_t>(i)];
        first = std::min(first, from - taps.count);
        float *weight = taps.weight.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(taps.count),
              sum = 0;
        visit_taps(from, to, kind, i, [&](int k, float w) {
            weight[inside(k) - first] += w;
            sum += w;
        });
        for (int k = 0; k < taps.count; ++k) weight[k] /= sum;
    }
    return taps;
}

/// The taps of a line, kept for the thread's next images of that size.
inline std::shared_ptr<const Taps> taps_of(int from, int to, Interpolation kind) {
    thread_local std::array<std::shared_ptr<const Taps>, 64> kept;
    auto& taps = kept[static_cast<std::size_t>(from * 31 + to * 7 + static_cast<int>(kind)) % kept.size()];
    if (!taps || taps->from != from || taps->to != to || taps->kind != kind)
        taps = std::make_shared<const Taps>(make_taps(from, to, kind));
    return taps;
}

/// One line of float sums: out[x, c] of in[from, c].
template <int C>
void across(const std::uint8_t* in, const Taps& taps, float* out) {
    for (int x = 0; x < taps.to; ++x) {
        const std::uint8_t* p = in + taps.first[static_cast<std::size_t>(x)] * C;
        const float* w = taps.weight.data() + x * taps.count;
        float sum[C] = {};
        for (int k = 0; k < taps.count; ++k)
            for (int c = 0; c < C; ++c) sum[c] += w[k] * static_cast<float>(p[k * C + c]);
        for (int c = 0; c < C; ++c) out[x * C + c] = sum[c];
    }
}

}  // namespace resizing

/// Resizes an image of 1 or 3 channels into another, whose memory is used again.
inline void resize_into(const Image& in, int width, int height, Image& out,
                        Interpolation kind = Interpolation::triangle) {
    const int c = in.channels;
    const auto across = resizing::taps_of(in.width, width, kind), down = resizing::taps_of(in.height, height, kind);
    thread_local std::vector<float> rows, line;
    const auto stride = static_cast<std::size_t>(width) * static_cast<std::size_t>(c);
    rows.resize(static_cast<std::size_t>(in.height) * stride);
    for (int y = 0; y < in.height; ++y) {
        float* to = rows.data() + static_cast<std::size_t>(y) * stride;
        if (c == 3)
            resizing::across<3>(in.at(0, y), *across, to);
        else
            resizing::across<1>(in.at(0, y), *across, to);
    }
    out.resize(width, height, c);
    line.resize(stride);
    for (int y = 0; y < height; ++y) {
        std::fill(line.begin(), line.end(), 0.5f);
        const float* from = rows.data() + static_cast<std::size_t>(down->first[static_cast<std::size_t>(y)]) * stride;
        const float* weight = down->weight.data() + y * down->count;
        for (int k = 0; k < down->count; ++k, from += stride)
            for (std::size_t i = 0; i < stride; ++i) line[i] += weight[k] * from[i];
        std::uint8_t* to = out.at(0, y);
        for (std::size_t i = 0; i < stride; ++i) to[i] = static_cast<std::uint8_t>(std::clamp(line[i], 0.0f, 255.0f));
    }
}

/// Resizes by sampling of pixel centres.
inline Image resize(const Image& in, int width, int height, Interpolation kind = Interpolation::triangle) {
    if (in.width == width && in.height == height) return in;
    Image out;
    resize_into(in, width, height, out, kind);
    return out;
}

}  // namespace bf

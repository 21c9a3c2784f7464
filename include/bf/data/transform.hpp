#pragma once
#if defined(__SSE__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bf/data/image.hpp"
#include "bf/data/input_format.hpp"
#include "bf/data/resize.hpp"

namespace bf {

/// The largest centred square, resized to size x size.
inline Image to_square(const Image& in, int size) {
    const int side = std::min(in.width, in.height);
    if (side == in.width && side == in.height) return resize(in, size, size);
    Image square(side, side, in.channels);
    const int x0 = (in.width - side) / 2, y0 = (in.height - side) / 2;
    for (int y = 0; y < side; ++y) std::copy_n(in.at(x0, y0 + y), side * in.channels, square.at(0, y));
    return resize(square, size, size);
}

/// Mirrors left and right in place.
inline void flip_horizontal(Image& image) {
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width / 2; ++x)
            std::swap_ranges(image.at(x, y), image.at(x, y) + image.channels, image.at(image.width - 1 - x, y));
}

/// Writes RGB images of one width as write_input() does, mirrored on request, a row in one pass that compilers
/// vectorise: scales and shifts stand beside each other as the values of a row do.
class InputWriter {
  public:
    InputWriter(const InputFormat& format, int width) : n_(static_cast<std::size_t>(width) * 3), bgr_(format.bgr) {
        for (Row* row : {&scale_, &shift_, &line_}) row->resize((n_ + 15) / 16);
        for (std::size_t i = 0; i < n_; ++i) {
            values(scale_)[i] = format.scale[i % 3];
            values(shift_)[i] = format.shift[i % 3];
        }
        row_.resize(n_);
    }
    /// out: height * width * 3 floats.
    void operator()(const Image& image, bool mirrored, float* out) {
        const std::size_t n = n_;
        for (int y = 0; y < image.height; ++y, out += n) {
            const std::uint8_t* from = image.at(0, y);
            if (mirrored || bgr_) from = reordered(from, mirrored);
            const float *scale = values(scale_), *shift = values(shift_);
            float* to = past_cache(out) ? values(line_) : out;
            for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) * scale[i] + shift[i];
            if (to != out) write_past_cache(to, out, n);
        }
#ifdef __SSE__
        _mm_sfence();
#endif
    }

  private:
    /// Floats that begin at a cache line: a vector of 64 bytes over two lines costs twice.
    struct alignas(64) CacheLine {
        std::array<float, 16> v;
    };
    using Row = std::vector<CacheLine>;
    static float* values(Row& row) { return reinterpret_cast<float*>(row.data()); }

    // A batch is larger than the caches: written past them, it need not be read first, and the decoder's data stays.
#ifdef __SSE__
    bool past_cache(const float* out) const { return reinterpret_cast<std::uintptr_t>(out) % 32 == 0 && n_ % 8 == 0; }
    static void write_past_cache(const float* line, float* out, std::size_t n) {
#ifdef __AVX__
        for (std::size_t i = 0; i < n; i += 8) _mm256_stream_ps(out + i, _mm256_load_ps(line + i));
#else
        for (std::size_t i = 0; i < n; i += 4) _mm_stream_ps(out + i, _mm_load_ps(line + i));
#endif
    }
#else
    static bool past_cache(const float*) { return false; }
    static void write_past_cache(const float*, float*, std::size_t) {}
#endif
    /// The row mirrored, as BGR, or both, in row_.
    const std::uint8_t* reordered(const std::uint8_t* from, bool mirrored) {
        std::uint8_t* to = row_.data();
        std::size_t i = 0;
#ifdef __SSSE3__
        // five pixels at once, and a byte that the next five overwrite
        alignas(16) std::int8_t place[16];
        for (int b = 0; b < 15; ++b) {
            const int pixel = mirrored ? 4 - b / 3 : b / 3, colour = bgr_ ? 2 - b % 3 : b % 3;
            place[b] = static_cast<std::int8_t>(pixel * 3 + colour + mirrored);
        }
        place[15] = -1;
        const __m128i places = _mm_load_si128(reinterpret_cast<const __m128i*>(place));
        for (; i + 16 <= n_; i += 15) {
            const auto* five = reinterpret_cast<const __m128i*>(mirrored ? from + n_ - 16 - i : from + i);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_shuffle_epi8(_mm_loadu_si128(five), places));
        }
#endif
        for (; i < n_; i += 3) {
            const std::uint8_t* p = from + (mirrored ? n_ - 3 - i : i);
            to[i] = p[bgr_ ? 2 : 0];
            to[i + 1] = p[1];
            to[i + 2] = p[bgr_ ? 0 : 2];
        }
        return to;
    }
    std::size_t n_;  ///< values of a row
    bool bgr_;
    Row scale_, shift_, line_;
    std::vector<std::uint8_t> row_;
};

}  // namespace bf

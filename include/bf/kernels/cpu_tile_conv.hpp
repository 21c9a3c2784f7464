#pragma once
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_pack.hpp"
#include "bf/kernels/cpu_sliding.hpp"
#include "bf/kernels/cpu_tiles.hpp"

// CPU: convolutions in bf16 as products of tiles, which read the values under a tap where they lie in their planes.
// What falls between the images is computed along and dropped.

#ifdef BF_HAVE_TILES

namespace bf::cpu {

/// Weights of output channels [32 block, ..) and input channels [32 group, ..) as the right side of products: for each
/// set, tap and input channel a row of 32 pairs, in `to` of the block [taps of all sets, input channels / 2, 32].
/// read(out, in, values) gives values [32 in, taps of the kernel, 32 out] from these channels on, and may leave what it
/// likes in 16 rows behind them.
template <class Read>
void pack_tiles(const Sliding& s, std::int64_t kernel_taps, Read&& read, std::int64_t block, std::int64_t group,
                Bf16Pair* to) {
    const Tensor scratch = Tensor::empty({32 * kernel_taps + 16, 32}, {.dtype = DType::f32});
    const float* values = scratch.data<float>();
    read(block * 32, group * 32, scratch.data<float>());
    to += group * 16 * 32;
    for (const auto& set : s.sets)
        for (const auto& tap : set.taps) {
            const float* from = values + tap.index * 32;
            for (std::int64_t pair = 0; pair < 16; ++pair, from += 2 * kernel_taps * 32)
                for (std::int64_t o = 0; o < 32; o += 16) {
                    const auto first = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + o)),
                               second = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + kernel_taps * 32 + o));
                    _mm512_storeu_si512(to + pair * 32 + o,
                                        _mm512_or_si512(_mm512_cvtepu16_epi32(first),
                                                        _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16)));
                }
            to += s.channels / 2 * 32;
        }
}

/// y = the sums of a pass over x; read() as pack_tiles() takes it.
template <class Read>
void tile_slide(const Sliding& s, const bf16* x, std::int64_t kernel_taps, Read&& read, bf16* y) {
    const std::int64_t width = s.width(), c = s.channels, steps = c / tile_depth;
    const bool in_place = s.n == 1 && s.in_step == 1 && s.planes[0].y == 0 && s.planes[0].x == 0 && s.span_y == 0 &&
                          s.span_x == 0 && s.rows == s.h && s.cols == s.w;
    const bool past_cache = s.out_channels % 32 == 0 &&
                            static_cast<std::size_t>(s.n * s.out_h * s.out_w * s.out_channels * 2) >= past_cache_bytes;
    // planes of about 512 KiB
    const std::vector<Strip> strips = strips_of(s, (256 << 10) / (c * s.plane_count()));
    const auto strip_count = static_cast<std::int64_t>(strips.size()), blocks = (s.out_channels + 31) / 32;
    // with few strips tasks take some of the output channels; sums are the same whoever makes them
    const std::int64_t parts = std::clamp<std::int64_t>(
        4 * cpu_pool().threads() / std::max<std::int64_t>(1, strip_count), 1, std::min<std::int64_t>(blocks, 8));
    std::int64_t taps = 0;
    for (const auto& set : s.sets) taps += static_cast<std::int64_t>(set.taps.size());
    // weights that one strip meets are packed by who multiplies them: they do not leave the second-level cache
    const bool once = strip_count == 1;
    const std::int64_t block_size = taps * c / 2 * 32;
    const Tensor packed = Tensor::empty({once ? 0 : blocks * block_size}, {.dtype = dtype_of<Bf16Pair>});
    if (!once)
        parallel_for(blocks * steps, 1, [&](std::int64_t i, std::int64_t) {
            pack_tiles(s, kernel_taps, read, i / steps, i % steps, packed.data<Bf16Pair>() + i / steps * block_size);
        });
    parallel_for(strip_count * parts, 1, [&](std::int64_t task, std::int64_t) {
        const Strip& strip = strips[static_cast<std::size_t>(task / parts)];
        const std::int64_t part = task % parts, stride = strip.plane_places(s), row = strip.images * width;
        const Tensor own = Tensor::empty({once ? block_size : 0}, {.dtype = dtype_of<Bf16Pair>});
        const Tensor copy = Tensor::empty({in_place ? 0 : s.plane_count() * stride * c}, {.dtype = DType::bf16});
        const bf16* planes = x + (strip.first * s.h + strip.begin) * s.w * c;
        if (!in_place) {
            fill_planes(s, strip, x, 0, c, stride, copy.data<bf16>());
            planes = copy.data<bf16>();
        }
        alignas(64) float sums[32 * 32];
        Tiles tiles;
        for (std::int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
            const Bf16Pair* w = once ? own.data<Bf16Pair>() : packed.data<Bf16Pair>() + block * block_size;
            if (once)
                for (std::int64_t group = 0; group < steps; ++group)
                    pack_tiles(s, kernel_taps, read, block, group, own.data<Bf16Pair>());
            for (const auto& set : s.sets) {
                const std::int64_t rows = std::min(strip.end, set.rows) - strip.begin,
                                   count = std::min<std::int64_t>(32, s.out_channels - block * 32),
                                   places = rows > 0 ? rows * row - (width - set.cols) : 0;
                for (std::int64_t first = 0; first < places; first += 32) {
                    const std::int64_t m = std::min<std::int64_t>(32, places - first);
                    tiles.multiply<false>(
                        m, static_cast<std::int64_t>(set.taps.size()),
                        [&](std::int64_t t) {
                            const Sliding::Tap& tap = set.taps[static_cast<std::size_t>(t)];
                            return std::pair(planes + (tap.plane * stride + first + tap.y * row + tap.x) * c,
                                             w + t * c / 2 * 32);
                        },
                        steps, 2 * c, sums, 128);
                    std::int64_t r = 0;
                    while (r < m) {  // what falls into one row of an image
                        const std::int64_t place = first + r, column = place % width,
                                           end = std::min(m, r + width - column),
                                           inside = std::min(end, r + set.cols - column),
                                           n = strip.first + place / width % strip.images,
                                           oy = set.y + (strip.begin + place / row) * s.out_step,
                                           ox = set.x + column * s.out_step;
                        bf16* to = y + ((n * s.out_h + oy) * s.out_w + ox) * s.out_channels + block * 32;
                        for (; r < inside; ++r, to += s.out_step * s.out_channels)
                            if (past_cache)
                                write_row<true>(sums + r * 32, count, to);
                            else
                                write_row<false>(sums + r * 32, count, to);
                        r = end;
                    }
                }
                w += static_cast<std::int64_t>(set.taps.size()) * c / 2 * 32;
            }
        }
        finish_stream();
    });
}

inline void tile_forward(const ConvGeometry& g, const bf16* x, const float* w, bf16* y) {
    const Sliding s = slide_forward(joined(g));
    const std::int64_t taps = g.kernel_h * g.kernel_w, row = g.c_in * taps;
    const auto read = [&](std::int64_t o, std::int64_t c, float* values) {
        const std::int64_t count = std::min<std::int64_t>(32, g.c_out - o);
        const float* from = w + o * row + c * taps;
        std::int64_t done = 0;
        for (; done + 16 <= count; done += 16)
            for (std::int64_t j = 0; j < 32 * taps; j += 16)
                transpose_lanes(from + done * row + j, row, values + j * 32 + done, 32);
        for (; done < 32; ++done)
            for (std::int64_t j = 0; j < 32 * taps; ++j)
                values[j * 32 + done] = done < count ? from[done * row + j] : 0;
    };
    tile_slide(s, x, taps, read, y);
}
inline void tile_dx(const ConvGeometry& g, const bf16* dy, const float* w, bf16* dx) {
    const Sliding s = slide_backward(joined(g));
    const std::int64_t taps = g.kernel_h * g.kernel_w, row = g.c_in * taps;
    const auto read = [&](std::int64_t c, std::int64_t o, float* values) {
        const std::int64_t count = std::min<std::int64_t>(32, g.c_in - c);
        for (std::int64_t i = 0; i < 32; ++i, values += taps * 32) {
            const float* from = w + (o + i) * row + c * taps;
            if (count == 32 && taps <= 16) {
                for (std::int64_t j = 0; j < 32; j += 16) transpose_lanes(from + j * taps, taps, values + j, 32, taps);
                continue;
            }
            for (std::int64_t j = 0; j < 32; ++j)
                for (std::int64_t t = 0; t < taps; ++t) values[t * 32 + j] = j < count ? from[j * taps + t] : 0;
        }
    };
    tile_slide(s, dy, taps, read, dx);
}

/// Planes [places, channels] with places along the rows: to [planes, channels, places].
inline void turn_planes(const bf16* from, std::int64_t planes, std::int64_t places, std::int64_t channels, bf16* to) {
    for (std::int64_t plane = 0; plane < planes; ++plane, from += places * channels, to += channels * places)
        for (std::int64_t p = 0; p < places; p += 32)
            for (std::int64_t c = 0; c < channels; c += 32)
                turn_block(from + p * channels + c, channels, to + c * places + p, places);
}
/// Rows [places, channels] as the right side of products over places: to [blocks of 32 channels, places / 2, 32].
inline void pair_places(const bf16* from, std::int64_t places, std::int64_t channels, Bf16Pair* to) {
    for (std::int64_t first = 0; first < channels; first += 32)
        for (std::int64_t p = 0; p < places; p += 2, to += 32) {
            const bf16* row = from + p * channels + first;
            if (channels - first >= 32)
                interleave(row, row + channels, to);
            else
                for (std::int64_t c = 0; c < 32; ++c)
                    to[c] = first + c < channels ? pair_of(row[c], row[channels + c]) : 0;
        }
}

/// dw as products over places: x with places along its rows, dy as pairs of places, zeros where there is no output.
/// Tasks take some input channels and some strips; the sums over strips are joined in order.
inline void tile_dw(const ConvGeometry& g, const bf16* x, const bf16* dy, float* dw) {
    const Sliding s = slide_forward(joined(g));
    const Sliding gradient{.n = s.n,
                           .h = s.out_h,
                           .w = s.out_w,
                           .channels = g.c_out,
                           .out_h = 0,
                           .out_w = 0,
                           .out_channels = 0,
                           .in_step = 1,
                           .out_step = 1,
                           .planes = {{0, 0}},
                           .sets = {},
                           .rows = s.rows,
                           .cols = s.width()};
    constexpr std::int64_t most = 64;
    const std::int64_t c = g.c_in, taps = g.kernel_h * g.kernel_w, blocks = (g.c_out + 31) / 32, outs = blocks * 32,
                       ranges = (c + most - 1) / most;
    const std::vector<Strip> strips = strips_of(s, (256 << 10) / (most * s.plane_count() + outs));
    const auto strip_count = static_cast<std::int64_t>(strips.size());
    if (strips.empty()) return std::fill_n(dw, g.c_out * c * taps, 0.0f), void();
    // sums of all parts in about 16 MiB
    const std::int64_t parts = std::clamp<std::int64_t>(std::min(16 / ranges, (4 << 20) / (taps * c * outs)), 1,
                                                        std::max<std::int64_t>(1, strip_count));
    const Tensor partial = Tensor::empty({parts, taps, c, outs}, {.dtype = DType::f32});
    float* sums = partial.data<float>();
    const auto depth_of = [&](const Strip& strip) { return (strip.places(s) + 31) / 32 * 32; };
    const auto pair = [&](const Strip& strip, Bf16Pair* to) {
        const Tensor copied = Tensor::empty({depth_of(strip) * g.c_out}, {.dtype = DType::bf16});
        fill_planes(gradient, strip, dy, 0, g.c_out, depth_of(strip), copied.data<bf16>());
        pair_places(copied.data<bf16>(), depth_of(strip), g.c_out, to);
    };
    // pairs that several tasks meet are made once
    std::vector<std::int64_t> places(strips.size() + 1);
    for (std::size_t i = 0; i < strips.size(); ++i) places[i + 1] = places[i] + depth_of(strips[i]);
    const bool shared = ranges > 1;
    const Tensor all_pairs = Tensor::empty({shared ? places.back() * outs / 2 : 0}, {.dtype = dtype_of<Bf16Pair>});
    const auto shared_pairs = [&](std::int64_t i) {
        return all_pairs.data<Bf16Pair>() + places[static_cast<std::size_t>(i)] * outs / 2;
    };
    if (shared)
        parallel_for(strip_count, 1,
                     [&](std::int64_t i, std::int64_t) { pair(strips[static_cast<std::size_t>(i)], shared_pairs(i)); });
    parallel_for(parts * ranges, 1, [&](std::int64_t task, std::int64_t) {
        const std::int64_t part = task / ranges, first = task % ranges * most, count = std::min(most, c - first),
                           from = strip_count * part / parts, upto = strip_count * (part + 1) / parts;
        Tiles tiles;
        for (std::int64_t i = from; i < upto; ++i) {
            const Strip& strip = strips[static_cast<std::size_t>(i)];
            const std::int64_t row = strip.images * s.width(), depth = depth_of(strip),
                               // whole tiles of places under each tap, and rows apart by an odd number of lines
                stride = (depth + s.span_y * row + s.span_x + 63) / 64 * 64 + 32;
            const Tensor planes = Tensor::empty({s.plane_count() * stride * count}, {.dtype = DType::bf16}),
                         turned = Tensor::empty({s.plane_count() * count * stride}, {.dtype = DType::bf16}),
                         own_pairs = Tensor::empty({shared ? 0 : depth * outs / 2}, {.dtype = dtype_of<Bf16Pair>});
            fill_planes(s, strip, x, first, count, stride, planes.data<bf16>());
            turn_planes(planes.data<bf16>(), s.plane_count(), stride, count, turned.data<bf16>());
            if (!shared) pair(strip, own_pairs.data<Bf16Pair>());
            const Bf16Pair* pairs = shared ? shared_pairs(i) : own_pairs.data<Bf16Pair>();
            // places at once that lie in the first-level cache while all taps meet them
            constexpr std::int64_t some = 256;
            for (std::int64_t piece = 0; piece < blocks * count / 32; ++piece)
                for (std::int64_t place = 0; place < depth; place += some) {
                    const std::int64_t block = piece / (count / 32), in = piece % (count / 32) * 32,
                                       steps = std::min(some, depth - place) / tile_depth;
                    const Bf16Pair* right = pairs + (block * depth + place) / 2 * 32;
                    const bf16* left = turned.data<bf16>() + in * stride + place;
                    for (std::int64_t t = 0; t < taps; ++t) {
                        const Sliding::Tap& tap = s.sets[0].taps[static_cast<std::size_t>(t)];
                        float* sum = sums + ((part * taps + t) * c + first + in) * outs + block * 32;
                        const auto at = [&](std::int64_t) {
                            return std::pair(left + tap.plane * count * stride + tap.y * row + tap.x, right);
                        };
                        if (i == from && place == 0)
                            tiles.multiply<false>(32, 1, at, steps, 2 * stride, sum, 4 * outs);
                        else
                            tiles.multiply<true>(32, 1, at, steps, 2 * stride, sum, 4 * outs);
                    }
                }
        }
    });
    join_sums(sums, parts, taps, c, outs, g.c_out, dw);
}

/// The first n of 32 lanes.
inline __mmask32 mask_of(std::int64_t n) {
    return n >= 32 ? ~__mmask32{0} : n <= 0 ? __mmask32{0} : static_cast<__mmask32>((std::uint32_t{1} << n) - 1);
}
/// A convolution over few channels as one of 1x1: those of all taps lie side by side, with zeros up to whole steps.
inline ConvGeometry over_patches(const ConvGeometry& g) {
    const std::int64_t values = (g.kernel_h * g.kernel_w * g.c_in + 31) / 32 * 32;
    return {1, values, g.n * g.h_out(), g.w_out(), g.c_out, 1, 1, 1, 0, 1};
}
inline Tensor tile_patches(const ConvGeometry& g, const bf16* x) {
    const std::int64_t row = over_patches(g).c_in, ho = g.h_out(), wo = g.w_out(), run = g.kernel_w * g.c_in,
                       padded = ((wo - 1) * g.stride + g.kernel_w) * g.c_in;
    const std::int64_t from = std::min(g.pad * g.c_in, padded), count = std::min(g.w * g.c_in, padded - from);
    const Tensor patches = Tensor::empty({g.n * ho * wo, row}, {.dtype = DType::bf16});
    parallel_for(g.n * ho, 8, [&](std::int64_t begin, std::int64_t end) {
        // a row of the image between its zeros, and room for loads behind it
        const Tensor line = Tensor::zeros({padded + 32}, {.dtype = DType::bf16});
        for (std::int64_t r = begin; r < end; ++r) {
            bf16* const to = patches.data<bf16>() + r * wo * row;
            for (std::int64_t ky = 0; ky < g.kernel_h; ++ky) {
                const std::int64_t y = r % ho * g.stride - g.pad + ky;
                if (y >= 0 && y < g.h)
                    copy_values(x + (r / ho * g.h + y) * g.w * g.c_in, count, line.data<bf16>() + from);
                else
                    std::fill_n(line.data<bf16>() + from, count, bf16());
                // behind the last row of the kernel the zeros up to a whole step
                const std::int64_t values = ky + 1 < g.kernel_h ? run : row - ky * run;
                for (std::int64_t i = 0; i < values; i += 32) {
                    const auto read = mask_of(run - i), written = mask_of(values - i);
                    for (std::int64_t j = 0; j < wo; ++j)
                        _mm512_mask_storeu_epi16(
                            to + j * row + ky * run + i, written,
                            _mm512_maskz_loadu_epi16(read, line.data<bf16>() + j * g.stride * g.c_in + i));
                }
            }
        }
    });
    return patches;
}
/// f(place in w [O, C, kh, kw], place in that of over_patches()) for each weight.
template <class F>
void each_patch_weight(const ConvGeometry& g, F&& f) {
    const std::int64_t taps = g.kernel_h * g.kernel_w, row = over_patches(g).c_in;
    for (std::int64_t o = 0; o < g.c_out; ++o)
        for (std::int64_t c = 0; c < g.c_in; ++c)
            for (std::int64_t tap = 0; tap < taps; ++tap) f((o * g.c_in + c) * taps + tap, o * row + tap * g.c_in + c);
}
inline void patch_forward(const ConvGeometry& g, const bf16* x, const float* w, bf16* y) {
    const Tensor weights = Tensor::zeros({g.c_out, over_patches(g).c_in});
    each_patch_weight(g, [&](std::int64_t from, std::int64_t to) { weights.data<float>()[to] = w[from]; });
    tile_forward(over_patches(g), tile_patches(g, x).data<bf16>(), weights.data<float>(), y);
}
inline void patch_dw(const ConvGeometry& g, const bf16* x, const bf16* dy, float* dw) {
    const Tensor gradient = Tensor::empty({g.c_out, over_patches(g).c_in});
    tile_dw(over_patches(g), tile_patches(g, x).data<bf16>(), dy, gradient.data<float>());
    each_patch_weight(g, [&](std::int64_t to, std::int64_t from) { dw[to] = gradient.data<float>()[from]; });
}

}  // namespace bf::cpu

#endif

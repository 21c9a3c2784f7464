#pragma once
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "bf/kernels/cpu_depthwise.hpp"
#include "bf/kernels/cpu_pack.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_tile_conv.hpp"
#include "bf/kernels/cpu_winograd.hpp"

// CPU: convolution over nhwc images, weights [O, C / groups, kh, kw]. Direct: values under the kernel are read in
// place, or gathered as patches, and multiplied while they lie in the cache.

namespace bf::cpu {

inline bool use_winograd(const ConvGeometry& g, ConvAlgorithm algorithm, DType dtype) {
    const bool possible = g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 && g.groups == 1 && g.pad <= 2;
    if (algorithm == ConvAlgorithm::automatic)
        // few tiles do not pay for the transform of the weights
        return possible && dtype == DType::f32 && g.pad == 1 && g.c_in >= 16 && g.c_out >= 16 &&
               TileGrid(g).count() >= 8;
    return possible && algorithm == ConvAlgorithm::winograd;
}
/// Whether tiles compute a pass in bf16: they take `channels` of what it reads in steps of 32.
inline bool use_tiles(const ConvGeometry& g, ConvAlgorithm algorithm, std::int64_t channels) {
    return g.groups == 1 && channels % 32 == 0 && algorithm != ConvAlgorithm::winograd && has_tiles();
}
/// Whether patches of an image with few channels are gathered for them.
inline bool patches_fill_tiles(const ConvGeometry& g, ConvAlgorithm algorithm) {
    return g.c_in < 8 && use_tiles(g, algorithm, 0);
}
/// How many rows of that many bytes a task takes at once: about 512 KiB, which stay in the second-level cache; of long
/// rows more, so that weights, which then come from further away, meet enough of them.
inline std::int64_t rows_at_once(std::int64_t bytes) {
    return std::clamp<std::int64_t>((512 << 10) / std::max<std::int64_t>(1, bytes) / block_rows, 4, 32) * block_rows;
}

/// Channels of one group, the length of a patch of its pixels, and how many patches a task takes at once.
struct GroupSizes {
    std::int64_t in, out, patch, rows, block;

    GroupSizes(const ConvGeometry& g, std::int64_t element)
        : in(g.c_in / g.groups),
          out(g.c_out / g.groups),
          patch(g.kernel_h * g.kernel_w * in),
          rows(g.n * g.h_out() * g.w_out()),
          block(rows_at_once(patch * element)) {}
};

/// What patches are kept in, and what they are multiplied as: pairs of bf16 where x is bf16 and the target can, else
/// numbers of Compute<S>.
template <class S, bool pairs>
struct PatchOf {
    using Kept = std::conditional_t<pairs, bf16, Compute<S>>;
    using Element = std::conditional_t<pairs, Bf16Pair, Compute<S>>;
    static constexpr std::int64_t step = pairs ? 2 : 1;
};
/// f.operator()<PatchOf<S, ..>>() for channels that are gathered `in` at a time.
template <class S, class F>
void visit_patches(std::int64_t in, F&& f) {
    if constexpr (std::is_same_v<S, bf16> && multiplies_pairs)
        if (in % 2 == 0) return f.template operator()<PatchOf<S, true>>();
    f.template operator()<PatchOf<S, false>>();
}

/// The left side of a product, as pieces of neighbouring rows. The values of a row lie in runs: in place, or in a patch
/// that was gathered. Rows of a piece lie equally far apart.
template <class E>
struct LeftSide {
    struct Run {
        const E* a;      ///< of the piece's first row
        std::int64_t k;  ///< place of its first value in the row
    };
    struct Piece {
        std::int64_t first, count;  ///< rows
        std::int64_t a_row, depth;  ///< between rows; values of each run
        std::size_t run, runs;      ///< its runs; none: the rows are zeros
    };
    std::vector<Run> runs;
    std::vector<Piece> pieces;

    void add(std::int64_t first, std::int64_t count, std::int64_t a_row, std::int64_t depth) {
        pieces.push_back({first, count, a_row, depth, runs.size(), 0});
    }
    void add_run(const E* a, std::int64_t k) {
        runs.push_back({a, k});
        ++pieces.back().runs;
    }
};

/// y[rows, cols] = a b, b of `depth` rows as column_blocks() gives it, or the first of those that a has; rows of y lie
/// y_row apart. Where the columns do not fill their last block, or y has another storage, `rest` [rows, block_cols]
/// takes them first.
template <class E, class S>
void multiply_columns(const LeftSide<E>& a, std::int64_t depth, std::int64_t cols, const E* b, S* y, std::int64_t y_row,
                      SumOf<E>* rest) {
    using T = SumOf<E>;
    for (std::int64_t first = 0; first < cols; first += block_cols<T>) {
        const std::int64_t count = std::min(block_cols<T>, cols - first);
        for (const auto& piece : a.pieces) {
            const auto at = [&](std::int64_t t) {
                const auto& run = a.runs[piece.run + static_cast<std::size_t>(t)];
                return std::pair<const E*, const E*>(run.a, b + first * depth + run.k * block_cols<T>);
            };
            const BlockStrides strides{piece.a_row, 1, block_cols<T>};
            const auto runs = static_cast<std::int64_t>(piece.runs);
            S* to = y + piece.first * y_row + first;
            if constexpr (std::is_same_v<T, S>)
                if (count == block_cols<T>) {
                    multiply_block<false, E>(piece.count, runs, at, piece.depth, strides, to, y_row);
                    continue;
                }
            multiply_block<false, E>(piece.count, runs, at, piece.depth, strides, rest, block_cols<T>);
            for (std::int64_t r = 0; r < piece.count; ++r) copy_values(rest + r * block_cols<T>, count, to + r * y_row);
        }
    }
}

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

template <class S, class Patch>
void direct_forward_as(const ConvGeometry& g, const S* x, const Compute<S>* w, S* y) {
    using T = Compute<S>;
    using P = typename Patch::Kept;
    using E = typename Patch::Element;
    constexpr std::int64_t step = Patch::step;
    const GroupSizes s(g, sizeof(P));
    const std::int64_t taps = g.kernel_h * g.kernel_w, depth = s.patch / step, ho = g.h_out(), wo = g.w_out();
    // inside an image the values under a row of the kernel lie side by side, and need no gathering
    const bool in_place = std::is_same_v<S, P> && g.groups == 1 && (wo >= 2 * block_rows || taps == 1);
    for (std::int64_t q = 0; q < g.groups; ++q) {
        const T* own = w + q * s.out * s.patch;
        const auto pack = [&](std::int64_t first, E* to) { pack_forward(own, s.out, s.in, taps, first, to); };
        S* const outputs = y + q * s.out;
        if (s.rows <= s.block) {  // one block of rows: tasks take columns, and pack the weights that they multiply
            const Tensor patches = Tensor::empty({s.rows, s.patch}, {.dtype = dtype_of<P>});
            parallel_for(s.rows, 8, [&](std::int64_t r, std::int64_t end) {
                gather_patches(g, x, r, end - r, 0, taps, q * s.in, s.in, patches.data<P>() + r * s.patch);
            });
            LeftSide<E> a;
            a.add(0, s.rows, depth, depth);
            a.add_run(reinterpret_cast<const E*>(patches.data<P>()), 0);
            parallel_for(padded_cols<T>(s.out) / block_cols<T>, 1, [&](std::int64_t p, std::int64_t) {
                const Tensor weights = Tensor::empty({block_cols<T>, depth}, {.dtype = dtype_of<E>}),
                             rest = Tensor::empty({s.rows, block_cols<T>}, {.dtype = dtype_of<T>});
                const std::int64_t first = p * block_cols<T>;
                pack(first, weights.data<E>());
                multiply_columns(a, depth, std::min(block_cols<T>, s.out - first), weights.data<E>(), outputs + first,
                                 g.c_out, rest.data<T>());
            });
            continue;
        }
        const Tensor weights = column_blocks<E>(depth, s.out, pack);
        parallel_for(s.rows, s.block, [&](std::int64_t begin, std::int64_t end) {
            const Tensor scratch = Tensor::empty({s.block, s.patch}, {.dtype = dtype_of<P>}),
                         rest = Tensor::empty({s.block, block_cols<T>}, {.dtype = dtype_of<T>});
            P* patches = scratch.data<P>();
            LeftSide<E> a;
            for (std::int64_t r = begin, count; r < end; r += count) {
                const std::int64_t n = r / (ho * wo), oy = r / wo % ho, ox = r % wo;
                const std::int64_t y0 = oy * g.stride - g.pad, x0 = ox * g.stride - g.pad;
                count = in_place ? std::min({block_rows, wo - ox, end - r}) : end - r;
                if constexpr (std::is_same_v<S, P>)
                    if (in_place && x0 >= 0 && x0 + (count - 1) * g.stride + g.kernel_w <= g.w) {
                        const std::int64_t run = g.kernel_w * g.c_in / step;
                        a.add(r - begin, count, g.stride * g.c_in / step, run);
                        for (std::int64_t ky = std::max<std::int64_t>(0, -y0); ky < g.kernel_h && y0 + ky < g.h; ++ky)
                            a.add_run(reinterpret_cast<const E*>(x + ((n * g.h + y0 + ky) * g.w + x0) * g.c_in),
                                      ky * run);
                        continue;
                    }
                P* to = patches + (r - begin) * s.patch;
                gather_patches(g, x, r, count, 0, taps, q * s.in, s.in, to);
                a.add(r - begin, count, depth, depth);
                a.add_run(reinterpret_cast<const E*>(to), 0);
            }
            multiply_columns(a, depth, s.out, weights.data<E>(), outputs + begin * g.c_out, g.c_out, rest.data<T>());
        });
    }
}
template <class S>
void direct_forward(const ConvGeometry& g, const S* x, const Compute<S>* w, S* y) {
    visit_patches<S>(g.c_in / g.groups, [&]<class Patch>() { direct_forward_as<S, Patch>(g, x, w, y); });
}

/// Input pixels whose rows leave the same remainder by the stride, and columns too, meet the same taps: over each of
/// these sets the input gradient is a convolution of dy with stride 1.
template <class S, class Patch>
void direct_dx_as(const ConvGeometry& g, const S* dy, const Compute<S>* w, S* dx) {
    using T = Compute<S>;
    using P = typename Patch::Kept;
    using E = typename Patch::Element;
    const GroupSizes s(g, sizeof(P));
    const std::int64_t ho = g.h_out(), wo = g.w_out(), taps = g.kernel_h * g.kernel_w;
    std::vector<std::int64_t> order;  // taps, those of a set together
    std::vector<std::size_t> upto;    // where the taps of each set end
    for (std::int64_t set = 0; set < g.stride * g.stride; ++set) {
        for (std::int64_t tap = 0; tap < taps; ++tap)
            if ((set / g.stride + g.pad - tap / g.kernel_w) % g.stride == 0 &&
                (set % g.stride + g.pad - tap % g.kernel_w) % g.stride == 0)
                order.push_back(tap);
        upto.push_back(order.size());
    }
    for (std::int64_t q = 0; q < g.groups; ++q) {
        const T* own = w + q * s.out * s.patch;
        const std::int64_t packed_depth = taps * s.out / Patch::step;
        const Tensor weights = column_blocks<E>(packed_depth, s.in, [&](std::int64_t first, E* to) {
            pack_backward(own, s.out, s.in, taps, order, first, to);
        });
        std::size_t before = 0;
        for (std::int64_t set = 0; set < g.stride * g.stride; ++set) {
            const std::int64_t y0 = set / g.stride, x0 = set % g.stride;
            const std::int64_t rows = (g.h - y0 + g.stride - 1) / g.stride, cols = (g.w - x0 + g.stride - 1) / g.stride;
            const std::size_t from = std::exchange(before, upto[static_cast<std::size_t>(set)]);
            if (rows <= 0 || cols <= 0) continue;
            const std::span mine(order.data() + from, before - from);  // taps that reach this set
            const auto met = static_cast<std::int64_t>(mine.size()), depth = met * s.out;
            const E* own_weights =
                weights.data<E>() + static_cast<std::int64_t>(from) * s.out / Patch::step * block_cols<T>;
            const std::int64_t block = rows_at_once(depth * static_cast<std::int64_t>(sizeof(P)));
            const bool in_place = std::is_same_v<S, P> && cols >= 2 * block_rows;
            parallel_for(g.n * rows * cols, block, [&](std::int64_t begin, std::int64_t end) {
                const std::int64_t width = padded_cols<T>(s.in);
                const Tensor scratch = Tensor::empty({block, depth}, {.dtype = dtype_of<P>}),
                             sums = Tensor::empty({block, width + block_cols<T>}, {.dtype = dtype_of<T>});
                P* patches = scratch.data<P>();
                T *made = sums.data<T>(), *rest = made + block * width;
                const auto place = [&](std::int64_t r) {
                    const std::int64_t within = r % (rows * cols);
                    return std::array{r / (rows * cols), y0 + within / cols * g.stride, x0 + within % cols * g.stride};
                };
                LeftSide<E> a;
                for (std::int64_t r = begin, count; r < end; r += count) {
                    count = in_place ? std::min({block_rows, cols - r % cols, end - r}) : end - r;
                    // where the rows from r on meet dy under a tap; multiples of the stride, side by side in a row
                    const auto under = [&](std::int64_t row, std::int64_t tap) {
                        const auto at = place(row);
                        return std::array{at[0], at[1] + g.pad - tap / g.kernel_w, at[2] + g.pad - tap % g.kernel_w};
                    };
                    const auto inside = [](std::int64_t at, std::int64_t stride, std::int64_t size) {
                        return at >= 0 && at / stride < size;
                    };
                    const auto pixel = [&](const std::array<std::int64_t, 3>& at) {
                        return dy + ((at[0] * ho + at[1] / g.stride) * wo + at[2] / g.stride) * g.c_out + q * s.out;
                    };
                    if constexpr (std::is_same_v<S, P>)
                        if (in_place && std::all_of(mine.begin(), mine.end(), [&](std::int64_t tap) {
                                const std::int64_t x = under(r, tap)[2];
                                return x >= 0 && x / g.stride + count <= wo;
                            })) {
                            a.add(r - begin, count, g.c_out / Patch::step, s.out / Patch::step);
                            for (std::size_t m = 0; m < mine.size(); ++m)
                                if (const auto at = under(r, mine[m]); inside(at[1], g.stride, ho))
                                    a.add_run(reinterpret_cast<const E*>(pixel(at)),
                                              static_cast<std::int64_t>(m) * s.out / Patch::step);
                            continue;
                        }
                    P* to = patches + (r - begin) * depth;
                    a.add(r - begin, count, depth / Patch::step, depth / Patch::step);
                    a.add_run(reinterpret_cast<const E*>(to), 0);
                    for (std::int64_t i = r; i < r + count; ++i)
                        for (const std::int64_t tap : mine) {
                            const auto at = under(i, tap);
                            if (inside(at[1], g.stride, ho) && inside(at[2], g.stride, wo))
                                copy_values(pixel(at), s.out, to);
                            else
                                std::fill_n(to, s.out, P(0));
                            to += s.out;
                        }
                }
                multiply_columns(a, packed_depth, s.in, own_weights, made, width, rest);
                for (std::int64_t r = begin; r < end; ++r) {
                    const auto [n, y, x] = place(r);
                    copy_values(made + (r - begin) * width, s.in, dx + ((n * g.h + y) * g.w + x) * g.c_in + q * s.in);
                }
            });
        }
    }
}
template <class S>
void direct_dx(const ConvGeometry& g, const S* dy, const Compute<S>* w, S* dx) {
    visit_patches<S>(g.c_out / g.groups, [&]<class Patch>() { direct_dx_as<S, Patch>(g, dy, w, dx); });
}

/// Rows 2k and 2k + 1 of `from` as a row of pairs; the row behind an odd count is zeros.
inline void pair_rows(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t width, Bf16Pair* to,
                      std::int64_t to_row) {
    for (std::int64_t k = 0; k < count; k += 2, from += 2 * row, to += to_row) {
        const bool both = k + 1 < count;
        for (std::int64_t i = 0; i < width; ++i) to[i] = pair_of(from[i], both ? from[row + i] : bf16());
    }
}

/// Tasks take ranges of the patch's values, and where these are few also parts of the output pixels, whose sums are
/// added in order.
template <class S>
void direct_dw(const ConvGeometry& g, const S* x, const S* dy, Compute<S>* dw) {
    using T = Compute<S>;
    const GroupSizes s(g, sizeof(T));
    const std::int64_t taps = g.kernel_h * g.kernel_w, width = padded_cols<T>(s.out);
    // a range is some channels of a tap, or all of several taps
    const std::int64_t most =
        std::max<std::int64_t>(block_rows, (256 << 10) / (width * static_cast<std::int64_t>(sizeof(T))));
    const std::int64_t strip = std::min(s.in, most), strips = (s.in + strip - 1) / strip,
                       some = strips > 1 ? 1 : std::clamp<std::int64_t>(most / s.in, 1, taps),
                       ranges = (taps + some - 1) / some * strips;
    constexpr std::int64_t block = 256;
    const std::int64_t blocks = (s.rows + block - 1) / block,
                       parts = std::clamp<std::int64_t>(8 / ranges, 1, std::clamp<std::int64_t>(blocks, 1, 8));
    const Tensor partial = Tensor::empty({parts, s.patch, width}, {.dtype = dtype_of<T>});
    T* sums = partial.data<T>();
    for (std::int64_t q = 0; q < g.groups; ++q) {
        parallel_for(ranges * parts, 1, [&](std::int64_t task, std::int64_t) {
            const std::int64_t range = task / parts, part = task % parts, tap0 = range / strips * some,
                               first = range % strips * strip, in = std::min(strip, s.in - first),
                               met = std::min(some, taps - tap0), rows = met * in;
            constexpr bool pairs = std::is_same_v<S, bf16> && multiplies_pairs;
            using Patch = PatchOf<S, pairs>;
            using P = typename Patch::Kept;
            using E = typename Patch::Element;
            constexpr std::int64_t step = Patch::step;
            // dy in another storage, or one that does not fill its last block of columns
            const bool copied = !std::is_same_v<S, T> || width != s.out;
            const Tensor scratch = Tensor::empty({block, rows}, {.dtype = dtype_of<P>}),
                         paired = Tensor::empty({block / step, pairs ? rows : 0}, {.dtype = dtype_of<E>}),
                         gradients = Tensor::empty({block / step, copied ? width : 0}, {.dtype = dtype_of<E>});
            E* mine = gradients.data<E>();
            T* sum = sums + (part * s.patch + tap0 * s.in + first) * width;
            if (copied) std::fill_n(mine, gradients.numel(), E(0));
            if (blocks == 0)
                for (std::int64_t r = 0; r < rows; ++r) std::fill_n(sum + r * width, width, T(0));
            const std::int64_t from = blocks * part / parts, to = blocks * (part + 1) / parts;
            for (std::int64_t i = from; i < to; ++i) {
                const std::int64_t begin = i * block, count = std::min(block, s.rows - begin);
                gather_patches(g, x, begin, count, tap0, met, q * s.in + first, in, scratch.data<P>());
                const S* grad = dy + begin * g.c_out + q * s.out;
                const E *a, *b = mine;
                if constexpr (pairs) {
                    pair_rows(scratch.data<P>(), rows, count, rows, paired.data<E>(), rows);
                    pair_rows(grad, g.c_out, count, s.out, mine, width);
                    a = paired.data<E>();
                } else {
                    a = scratch.data<P>();
                    if (copied)
                        for (std::int64_t r = 0; r < count; ++r)
                            copy_values(grad + r * g.c_out, s.out, mine + r * width);
                    else if constexpr (std::is_same_v<S, T>)
                        b = grad;
                }
                const BlockStrides strides{1, rows, copied ? width : g.c_out};
                for (std::int64_t p = 0; p < width; p += block_cols<T>) {
                    const auto at = [&](std::int64_t) { return std::pair<const E*, const E*>(a, b + p); };
                    const std::int64_t depth = (count + step - 1) / step;
                    if (i == from)
                        multiply_block<false, E>(rows, 1, at, depth, strides, sum + p, width);
                    else
                        multiply_block<true, E>(rows, 1, at, depth, strides, sum + p, width);
                }
            }
        });
        join_sums(sums, parts, taps, s.in, width, s.out, dw + q * s.out * s.patch);
    }
}

inline void conv2d(Context& ctx, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& w,
                   const Tensor& y) {
    if ((is_depthwise(g) || has_small_groups(g)) && widened<1>(conv2d, ctx, g, algorithm, x, w, y)) return;
    visit_stored(x.dtype(), "conv2d", [&]<class S>() {
        using T = Compute<S>;
        if (y.numel() == 0) return;
        const T* weights = w.data<T>();
#ifdef BF_HAVE_TILES
        if constexpr (std::is_same_v<S, bf16>) {
            if (use_tiles(g, algorithm, g.c_in)) return tile_forward(g, x.data<S>(), weights, y.data<S>());
            if (patches_fill_tiles(g, algorithm)) return patch_forward(g, x.data<S>(), weights, y.data<S>());
        }
#endif
        if (use_winograd(g, algorithm, w.dtype())) return winograd_forward(g, x.data<S>(), weights, false, y.data<S>());
        if constexpr (std::is_same_v<S, T>) {
            if (is_depthwise(g)) return depthwise_forward(g, x.data<T>(), weights, y.data<T>());
            if (has_small_groups(g)) return small_groups_forward(g, x.data<T>(), weights, y.data<T>());
        }
        direct_forward(g, x.data<S>(), weights, y.data<S>());
    });
}

inline void conv2d_dx(Context& ctx, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& dy, const Tensor& w,
                      const Tensor& dx) {
    if ((is_depthwise(g) || has_small_groups(g)) && widened<1>(conv2d_dx, ctx, g, algorithm, dy, w, dx)) return;
    visit_stored(dy.dtype(), "conv2d", [&]<class S>() {
        using T = Compute<S>;
        if (dx.numel() == 0) return;
        const T* weights = w.data<T>();
#ifdef BF_HAVE_TILES
        if constexpr (std::is_same_v<S, bf16>)
            if (use_tiles(g, algorithm, g.c_out)) return tile_dx(g, dy.data<S>(), weights, dx.data<S>());
#endif
        if (use_winograd(g, algorithm, w.dtype())) {
            // the input gradient is a forward pass over dy with the kernel turned and the padding mirrored
            const ConvGeometry back{.n = g.n,
                                    .c_in = g.c_out,
                                    .h = g.h_out(),
                                    .w = g.w_out(),
                                    .c_out = g.c_in,
                                    .kernel_h = 3,
                                    .kernel_w = 3,
                                    .stride = 1,
                                    .pad = 2 - g.pad,
                                    .groups = 1};
            return winograd_forward(back, dy.data<S>(), weights, true, dx.data<S>());
        }
        if constexpr (std::is_same_v<S, T>) {
            if (is_depthwise(g)) return depthwise_dx(g, dy.data<T>(), weights, dx.data<T>());
            if (has_small_groups(g)) return small_groups_dx(g, dy.data<T>(), weights, dx.data<T>());
        }
        direct_dx(g, dy.data<S>(), weights, dx.data<S>());
    });
}

inline void conv2d_dw(Context& ctx, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& dy,
                      const Tensor& dw) {
    if ((is_depthwise(g) || has_small_groups(g)) && widened<1>(conv2d_dw, ctx, g, algorithm, x, dy, dw)) return;
    visit_stored(x.dtype(), "conv2d", [&]<class S>() {
        using T = Compute<S>;
        T* to = dw.data<T>();
#ifdef BF_HAVE_TILES
        if constexpr (std::is_same_v<S, bf16>) {
            if (use_tiles(g, algorithm, g.c_in)) return tile_dw(g, x.data<S>(), dy.data<S>(), to);
            if (patches_fill_tiles(g, algorithm)) return patch_dw(g, x.data<S>(), dy.data<S>(), to);
        }
#endif
        if (use_winograd(g, algorithm, dw.dtype())) return winograd_dw(g, x.data<S>(), dy.data<S>(), to);
        if constexpr (std::is_same_v<S, T>) {
            if (is_depthwise(g)) return depthwise_dw(g, x.data<T>(), dy.data<T>(), to);
            if (has_small_groups(g)) return small_groups_dw(g, x.data<T>(), dy.data<T>(), to);
        }
        direct_dw(g, x.data<S>(), dy.data<S>(), to);
    });
}

}  // namespace bf::cpu

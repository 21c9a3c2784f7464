#pragma once
#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_simd.hpp"
#include "bf/kernels/table.hpp"
#include "bf/math/winograd.hpp"

// CPU: 3x3 stride-1 convolution by Winograd F(4x4, 3x3) in all three passes. Channels go across vector lanes. Forward
// pass and input gradient: a task takes a block of tiles from image to image, so that inputs and products of its 36
// multiplications stay in the cache of its core. Weight gradient: slabs of tiles are transformed, then multiplied into
// 36 sums, a task each. Blocks, slabs and tasks depend on the shape alone.

namespace bf::cpu {

/// Tiles of 4x4 outputs that cover the images.
struct TileGrid {
    std::int64_t rows, cols, images;

    explicit TileGrid(const ConvGeometry& g) : rows((g.h_out() + 3) / 4), cols((g.w_out() + 3) / 4), images(g.n) {}
    std::int64_t count() const { return rows * cols * images; }
    struct Tile {
        std::int64_t image, y, x;  ///< first row and column of its outputs
    };
    Tile operator[](std::int64_t t) const {
        const std::int64_t within = t % (rows * cols);
        return {t / (rows * cols), within / cols * 4, within % cols * 4};
    }
};

/// Reads the size x size window at (y0, x0) of an nhwc image [h, w, channels], transforms it by Line along both axes
/// into 6x6 values, and writes value k to out[k * plane].
template <int size, class S, class T, class Line>
void transform_in(const S* image, std::int64_t h, std::int64_t w, std::int64_t channels, std::int64_t y0,
                  std::int64_t x0, T* out, std::int64_t plane, Line&& line) {
    const bool inside = y0 >= 0 && x0 >= 0 && y0 + size <= h && x0 + size <= w;
    for (std::int64_t c = 0; c < channels; c += lanes<T>) {
        const std::int64_t count = channels - c;
        Vector<T> mid[6][size], column[size], six[6];
        for (int j = 0; j < size; ++j) {
            for (int i = 0; i < size; ++i) {
                const std::int64_t y = y0 + i, x = x0 + j;
                if (inside || (y >= 0 && y < h && x >= 0 && x < w))
                    column[i] = load(image + (y * w + x) * channels + c, count);
                else
                    column[i] = Vector<T>{};
            }
            line(column, six);
            for (int i = 0; i < 6; ++i) mid[i][j] = six[i];
        }
        for (int i = 0; i < 6; ++i) {
            line(mid[i], six);
            for (int j = 0; j < 6; ++j) store(out + (i * 6 + j) * plane + c, six[j], count);
        }
    }
}

/// Reads 6x6 products of a tile, transforms them to 4x4 outputs and writes those inside the image [h, w, channels] from
/// channel 0 of `image` on, `count` channels.
template <bool past_cache, class T, class S>
void transform_out(const T* products, std::int64_t plane, S* image, std::int64_t h, std::int64_t w,
                   std::int64_t channels, std::int64_t count, std::int64_t y0, std::int64_t x0) {
    for (std::int64_t c = 0; c < count; c += lanes<T>) {
        Vector<T> mid[4][6], column[6], four[4];
        for (int j = 0; j < 6; ++j) {
            for (int i = 0; i < 6; ++i) column[i] = load(products + (i * 6 + j) * plane + c);
            math::winograd_output(column, four);
            for (int i = 0; i < 4; ++i) mid[i][j] = four[i];
        }
        for (int i = 0; i < 4 && y0 + i < h; ++i) {
            math::winograd_output(mid[i], four);
            for (int j = 0; j < 4 && x0 + j < w; ++j) {
                S* to = image + ((y0 + i) * w + x0 + j) * channels + c;
                if constexpr (past_cache)
                    stream(to, four[j]);
                else
                    store(to, four[j], count - c);
            }
        }
    }
}

/// Values between the 36 matrices that weights become: no multiple of the cache's size, where all would lie in the same
/// places of it.
template <class T>
constexpr std::int64_t weight_plane(std::int64_t in) {
    return in * block_cols<T> + lanes<T>;
}
/// Columns [panel * block_cols, ..) of the 36 matrices [in, out] that weights [O, C, 3, 3] become, each as [in,
/// block_cols]: forward (C, O), or for the input gradient (O, C) with the kernel turned by 180 degrees. Missing columns
/// are 0.
template <class T>
void winograd_weights(const T* w, std::int64_t c_out, std::int64_t c_in, bool flip, std::int64_t panel, T* u) {
    const std::int64_t rows = flip ? c_out : c_in, cols = flip ? c_in : c_out, plane = weight_plane<T>(rows);
    // kernels that lie side by side for the same columns
    const std::int64_t some = flip ? 1 : lanes<T>;
    alignas(64) T turned[10 * lanes<T> * lanes<T>];
    for (std::int64_t half = 0; half < block_cols<T>; half += lanes<T>) {
        const std::int64_t s = panel * block_cols<T> + half, count = std::clamp<std::int64_t>(cols - s, 0, lanes<T>);
        for (std::int64_t r = 0; r < rows; ++r) {
            if (r % some == 0)
                turn_rows(w + (flip ? r * c_in + s : s * c_in + r) * 9, (flip ? 1 : c_in) * 9, count,
                          std::min(some, rows - r) * 9, turned);
            const T* g = turned + r % some * 9 * lanes<T>;
            Vector<T> mid[6][3], column[3], six[6];
            for (int j = 0; j < 3; ++j) {
                for (int i = 0; i < 3; ++i) column[i] = load(g + (flip ? 8 - i * 3 - j : i * 3 + j) * lanes<T>);
                math::winograd_weight(column, six, T());
                for (int i = 0; i < 6; ++i) mid[i][j] = six[i];
            }
            for (int i = 0; i < 6; ++i) {
                math::winograd_weight(mid[i], six, T());
                for (int j = 0; j < 6; ++j) store(u + (i * 6 + j) * plane + r * block_cols<T> + half, six[j]);
            }
        }
    }
}

/// Up to this many bytes of transformed inputs are kept whole: weights are then transformed, and their sums made, a
/// block of columns at a time, and never lie in memory whole, where 512 channels would take 38 MB.
inline constexpr std::int64_t few_tiles_bytes = 12 << 20;
template <class T>
bool few_tiles(const TileGrid& grid, std::int64_t channels) {
    return 36 * grid.count() * channels * static_cast<std::int64_t>(sizeof(T)) <= few_tiles_bytes;
}

/// The tiles of x in the places 0, 1, ... of `v`, of which each of the 36 planes holds them all.
template <class S, class T>
void transform_inputs(const ConvGeometry& g, const TileGrid& grid, std::int64_t begin, std::int64_t count, const S* x,
                      T* v, std::int64_t plane) {
    for (std::int64_t t = 0; t < count; ++t) {
        const auto at = grid[begin + t];
        transform_in<6>(x + at.image * g.h * g.w * g.c_in, g.h, g.w, g.c_in, at.y - g.pad, at.x - g.pad, v + t * g.c_in,
                        plane, [](const Vector<T>* in, Vector<T>* out) { math::winograd_input(in, out); });
    }
}
/// All of them, by all threads.
template <class T, class S>
Tensor transformed_inputs(const ConvGeometry& g, const TileGrid& grid, const S* x, std::int64_t plane) {
    const Tensor inputs = Tensor::empty({36, plane}, {.dtype = dtype_of<T>});
    parallel_for(grid.count(), 8, [&](std::int64_t begin, std::int64_t end) {
        transform_inputs(g, grid, begin, end - begin, x, inputs.data<T>() + begin * g.c_in, plane);
    });
    return inputs;
}

/// y = conv(x, w), or with `flip` the input gradient: x is dy [.., O] and y is dx [.., C]. g is the geometry of this
/// very pass (its input is x) and `pad` its padding.
template <class S>
void winograd_forward(const ConvGeometry& g, const S* x, const Compute<S>* w, bool flip, S* y) {
    using T = Compute<S>;
    const TileGrid grid(g);
    const TensorOptions made{.dtype = dtype_of<T>};
    const std::int64_t c = g.c_in, o = g.c_out, panels = padded_cols<T>(o) / block_cols<T>,
                       panel_size = 36 * weight_plane<T>(c);
    const auto weights_of = [&](std::int64_t panel, T* u) {
        winograd_weights(w, flip ? c : o, flip ? o : c, flip, panel, u);
    };
    // products of `tiles` tiles with a panel of weights
    const auto multiply = [&](std::int64_t tiles, const T* v, std::int64_t in_plane, const T* u, T* m,
                              std::int64_t out_plane, std::int64_t m_row) {
        for (std::int64_t k = 0; k < 36; ++k)
            multiply_block<false, T>(
                tiles, 1,
                [&](std::int64_t) {
                    return std::pair<const T*, const T*>(v + k * in_plane, u + k * weight_plane<T>(c));
                },
                c, {c, 1, block_cols<T>}, m + k * out_plane, m_row);
    };
    const bool past_cache = std::is_same_v<S, T> && o % lanes<T> == 0 &&
                            static_cast<std::size_t>(g.n * g.h_out() * g.w_out() * o) * sizeof(S) >= past_cache_bytes;
    const auto write = [&](std::int64_t begin, std::int64_t tiles, const T* m, std::int64_t out_plane,
                           std::int64_t m_row, std::int64_t first) {
        const auto all = [&](auto past) {
            for (std::int64_t t = 0; t < tiles; ++t) {
                const auto at = grid[begin + t];
                transform_out<past()>(m + t * m_row, out_plane, y + at.image * g.h_out() * g.w_out() * o + first,
                                      g.h_out(), g.w_out(), o, std::min(m_row, o - first), at.y, at.x);
            }
        };
        if constexpr (std::is_same_v<S, T>)
            if (past_cache) return all(std::true_type()), finish_stream();
        all(std::false_type());
    };
    if (few_tiles<T>(grid, c)) {
        const std::int64_t in_plane = grid.count() * c + lanes<T>, out_plane = grid.count() * block_cols<T> + lanes<T>;
        const Tensor inputs = transformed_inputs<T>(g, grid, x, in_plane);
        parallel_for(panels, 1, [&](std::int64_t p, std::int64_t) {
            const Tensor weights = Tensor::empty({panel_size}, made), products = Tensor::empty({36, out_plane}, made);
            weights_of(p, weights.data<T>());
            multiply(grid.count(), inputs.data<T>(), in_plane, weights.data<T>(), products.data<T>(), out_plane,
                     block_cols<T>);
            write(0, grid.count(), products.data<T>(), out_plane, block_cols<T>, p * block_cols<T>);
        });
        return;
    }
    const Tensor weights = Tensor::empty({panels, panel_size}, made);
    parallel_for(panels, 1, [&](std::int64_t p, std::int64_t) { weights_of(p, weights.data<T>() + p * panel_size); });
    // inputs and the products of some output channels in about 768 KiB; with many channels more, so that the weights,
    // which then come from further away, meet enough tiles
    const std::int64_t chunk = std::min<std::int64_t>(panels, 2) * block_cols<T>,
                       room = (768 << 10) / (36 * (c + chunk) * static_cast<std::int64_t>(sizeof(T))),
                       block = std::clamp<std::int64_t>(room / block_rows, 4, 8) * block_rows;
    const std::int64_t in_plane = block * c + lanes<T>, out_plane = block * chunk + lanes<T>;
    parallel_for(grid.count(), block, [&](std::int64_t begin, std::int64_t end) {
        const Tensor inputs = Tensor::empty({36, in_plane}, made), products = Tensor::empty({36, out_plane}, made);
        T *v = inputs.data<T>(), *m = products.data<T>();
        transform_inputs(g, grid, begin, end - begin, x, v, in_plane);
        for (std::int64_t first = 0; first < o; first += chunk) {
            for (std::int64_t p = 0; p < chunk && first + p < o; p += block_cols<T>)
                multiply(end - begin, v, in_plane, weights.data<T>() + (first + p) / block_cols<T> * panel_size, m + p,
                         out_plane, chunk);
            write(begin, end - begin, m, out_plane, chunk, first);
        }
    });
}

/// Adds the sums over `tiles` tiles to acc [C, block_cols], or starts it: in pieces of 128, so that rounding grows with
/// their number and not with that of the tiles.
template <class T>
void add_products(bool start, std::int64_t tiles, std::int64_t c, const T* v, const T* z, std::int64_t z_row, T* acc,
                  std::int64_t acc_row) {
    for (std::int64_t from = 0; from < tiles; from += 128) {
        const auto at = [&](std::int64_t) { return std::pair<const T*, const T*>(v + from * c, z + from * z_row); };
        const std::int64_t depth = std::min<std::int64_t>(128, tiles - from);
        if (start && from == 0)
            multiply_block<false, T>(c, 1, at, depth, {1, c, z_row}, acc, acc_row);
        else
            multiply_block<true, T>(c, 1, at, depth, {1, c, z_row}, acc, acc_row);
    }
}

/// Output gradients of a tile.
template <class S, class T>
void transform_gradient(const ConvGeometry& g, const TileGrid::Tile& at, const S* dy, T* z, std::int64_t plane) {
    transform_in<4>(dy + at.image * g.h_out() * g.w_out() * g.c_out, g.h_out(), g.w_out(), g.c_out, at.y, at.x, z,
                    plane, [](const Vector<T>* in, Vector<T>* out) { math::winograd_output_gradient(in, out); });
}

/// dw of `count` outputs from `first` on, of input channel i: from the 36 sums that lie `plane` apart.
template <class T>
void weight_gradient(const T* acc, std::int64_t plane, std::int64_t c, std::int64_t i, std::int64_t first,
                     std::int64_t count, T* dw) {
    Vector<T> mid[3][6], six[6], three[3];
    for (std::int64_t s = 0; s < count; s += lanes<T>) {
        for (int b = 0; b < 6; ++b) {
            for (int a = 0; a < 6; ++a) six[a] = load(acc + (a * 6 + b) * plane + s);
            math::winograd_weight_gradient(six, three, T());
            for (int a = 0; a < 3; ++a) mid[a][b] = three[a];
        }
        for (int a = 0; a < 3; ++a) {
            math::winograd_weight_gradient(mid[a], three, T());
            for (std::int64_t l = 0; l < std::min(lanes<T>, count - s); ++l)
                for (int b = 0; b < 3; ++b) dw[((first + s + l) * c + i) * 9 + a * 3 + b] = three[b][l];
        }
    }
}

/// dw = gradient of the weights: G^T [ sum over tiles (B^T d B) . (A dy A^T) ] G.
template <class S>
void winograd_dw(const ConvGeometry& g, const S* x, const S* dy, Compute<S>* dw) {
    using T = Compute<S>;
    const TileGrid grid(g);
    const TensorOptions made{.dtype = dtype_of<T>};
    const std::int64_t c = g.c_in, o = g.c_out, width = padded_cols<T>(o), count = grid.count();
    if (count == 0) return std::fill_n(dw, o * c * 9, T(0)), void();
    const bool few = few_tiles<T>(grid, c + width);
    const std::int64_t slab =
        few ? count
            : std::min(count, std::clamp<std::int64_t>(
                                  (8 << 20) / (36 * (c + width) * static_cast<std::int64_t>(sizeof(T))), 64, 512));
    const std::int64_t in_plane = slab * c + lanes<T>, out_plane = slab * width + lanes<T>;
    const Tensor inputs = Tensor::empty({36, in_plane}, made), outputs = Tensor::empty({36, out_plane}, made);
    T *v = inputs.data<T>(), *z = outputs.data<T>();
    if (width != o) std::memset(outputs.raw(), 0, outputs.bytes());
    const auto transform_slab = [&](std::int64_t begin, std::int64_t tiles) {
        parallel_for(tiles, 8, [&](std::int64_t first, std::int64_t last) {
            transform_inputs(g, grid, begin + first, last - first, x, v + first * c, in_plane);
            for (std::int64_t t = first; t < last; ++t)
                transform_gradient(g, grid[begin + t], dy, z + t * width, out_plane);
        });
    };
    if (few) {
        transform_slab(0, count);
        parallel_for(width / block_cols<T>, 1, [&](std::int64_t p, std::int64_t) {
            const Tensor sums = Tensor::empty({36, c, block_cols<T>}, made);
            T* acc = sums.data<T>();
            const std::int64_t first = p * block_cols<T>, plane = c * block_cols<T>;
            for (std::int64_t k = 0; k < 36; ++k)
                add_products(true, count, c, v + k * in_plane, z + k * out_plane + first, width, acc + k * plane,
                             block_cols<T>);
            for (std::int64_t i = 0; i < c; ++i)
                weight_gradient(acc + i * block_cols<T>, plane, c, i, first, std::min(block_cols<T>, o - first), dw);
        });
        return;
    }
    const Tensor sums = Tensor::empty({36, c, width}, made);
    T* acc = sums.data<T>();
    for (std::int64_t begin = 0; begin < count; begin += slab) {
        const std::int64_t tiles = std::min(slab, count - begin);
        transform_slab(begin, tiles);
        parallel_for(36, 1, [&](std::int64_t k, std::int64_t) {
            for (std::int64_t p = 0; p < width; p += block_cols<T>)
                add_products(begin == 0, tiles, c, v + k * in_plane, z + k * out_plane + p, width,
                             acc + k * c * width + p, width);
        });
    }
    parallel_for(c, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) weight_gradient(acc + i * width, c * width, c, i, 0, o, dw);
    });
}

}  // namespace bf::cpu

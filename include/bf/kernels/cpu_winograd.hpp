#pragma once
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/math/winograd.hpp"

// CPU: 3x3 stride-1 convolution by Winograd F(4x4, 3x3) in all three passes. Tiles are transformed with channels
// across vector lanes; the 36 products are GEMMs over a slab of tiles, one task each. A slab bounds the scratch
// memory; slabs and tasks depend on the shape alone.

namespace bf::cpu {

/// Vector of channels that one transform handles at a time.
template <class T>
inline constexpr int lane_width = 64 / static_cast<int>(sizeof(T));
template <class T>
using Lane = Eigen::Array<T, lane_width<T>, 1>;

// Eigen scales an array by its own scalar type only.
template <class T>
struct LaneValue {
    Lane<T> v;
    LaneValue() = default;
    template <class E>
    LaneValue(const Eigen::ArrayBase<E>& e) : v(e) {}
    friend LaneValue operator+(const LaneValue& a, const LaneValue& b) { return a.v + b.v; }
    friend LaneValue operator-(const LaneValue& a, const LaneValue& b) { return a.v - b.v; }
    friend LaneValue operator*(const LaneValue& a, float s) { return a.v * static_cast<T>(s); }
};

template <class T>
LaneValue<T> load_lane(const T* p, std::int64_t count) {
    if (count >= lane_width<T>) return Eigen::Map<const Lane<T>>(p);
    LaneValue<T> lane;
    lane.v.setZero();
    std::copy_n(p, count, lane.v.data());
    return lane;
}
template <class T>
void store_lane(const LaneValue<T>& lane, T* p, std::int64_t count) {
    if (count >= lane_width<T>)
        std::copy_n(lane.v.data(), lane_width<T>, p);
    else
        std::copy_n(lane.v.data(), count, p);
}

/// Tiles of 4x4 outputs that cover an image, cut into slabs.
struct TileGrid {
    std::int64_t rows, cols, images, slab;

    TileGrid(const ConvGeometry& g, std::size_t element)
        : rows((g.h_out() + 3) / 4), cols((g.w_out() + 3) / 4), images(g.n) {
        const std::int64_t budget = 24 << 20;
        const std::int64_t per_tile = 36 * (g.c_in + g.c_out) * static_cast<std::int64_t>(element);
        slab = std::max<std::int64_t>(64, budget / per_tile);
    }
    std::int64_t count() const { return rows * cols * images; }
};

/// Reads the size x size window at (y0, x0) of an nhwc image [h, w, c] channel block by block, transforms it by Line
/// along both axes into 6x6 values, and writes value k of tile t to out[(k * slab + t) * channels].
template <int size, class T, class Line>
void transform_in(const T* image, std::int64_t h, std::int64_t w, std::int64_t channels, std::int64_t y0,
                  std::int64_t x0, T* out, std::int64_t plane, Line&& line) {
    for (std::int64_t c = 0; c < channels; c += lane_width<T>) {
        const std::int64_t count = channels - c;
        LaneValue<T> mid[6][size], column[size], six[6];
        for (int j = 0; j < size; ++j) {
            for (int i = 0; i < size; ++i) {
                const std::int64_t y = y0 + i, x = x0 + j;
                if (y >= 0 && y < h && x >= 0 && x < w)
                    column[i] = load_lane(image + (y * w + x) * channels + c, count);
                else
                    column[i].v.setZero();
            }
            line(column, six);
            for (int i = 0; i < 6; ++i) mid[i][j] = six[i];
        }
        for (int i = 0; i < 6; ++i) {
            line(mid[i], six);
            for (int j = 0; j < 6; ++j) store_lane(six[j], out + (i * 6 + j) * plane + c, count);
        }
    }
}

/// Reads 6x6 products of a tile, transforms them to 4x4 outputs and writes those inside the image.
template <class T>
void transform_out(const T* products, std::int64_t plane, T* image, std::int64_t h, std::int64_t w,
                   std::int64_t channels, std::int64_t y0, std::int64_t x0) {
    for (std::int64_t c = 0; c < channels; c += lane_width<T>) {
        const std::int64_t count = channels - c;
        LaneValue<T> mid[4][6], column[6], four[4];
        for (int j = 0; j < 6; ++j) {
            for (int i = 0; i < 6; ++i) column[i] = load_lane(products + (i * 6 + j) * plane + c, count);
            math::winograd_output(column, four);
            for (int i = 0; i < 4; ++i) mid[i][j] = four[i];
        }
        for (int i = 0; i < 4 && y0 + i < h; ++i) {
            math::winograd_output(mid[i], four);
            for (int j = 0; j < 4 && x0 + j < w; ++j)
                store_lane(four[j], image + ((y0 + i) * w + x0 + j) * channels + c, count);
        }
    }
}

/// body(tile in slab, image, first row, first column) for the tiles of a slab, in parallel.
template <class F>
void for_tiles(const TileGrid& grid, std::int64_t begin, std::int64_t end, F&& body) {
    parallel_for(end - begin, 8, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t t = first; t < last; ++t) {
            const std::int64_t tile = begin + t, in_image = tile % (grid.rows * grid.cols);
            body(t, tile / (grid.rows * grid.cols), in_image / grid.cols * 4, in_image % grid.cols * 4);
        }
    });
}

/// Weights [O, C, 3, 3] to 36 matrices [in, out]: forward (C, O), or for the input gradient (O, C) with the kernel
/// turned by 180 degrees. Output columns go across vector lanes.
template <class T>
void winograd_weights(const T* w, std::int64_t c_out, std::int64_t c_in, bool flip, T* u) {
    const std::int64_t rows = flip ? c_out : c_in, cols = flip ? c_in : c_out;
    parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        Lane<T> g[9], mid[6][3], column[3], six[6];
        for (std::int64_t s = 0; s < cols; s += lane_width<T>) {
            const std::int64_t count = std::min<std::int64_t>(lane_width<T>, cols - s);
            for (std::int64_t r = begin; r < end; ++r) {
                for (std::int64_t l = 0; l < count; ++l) {
                    const T* from = w + (flip ? r * c_in + s + l : (s + l) * c_in + r) * 9;
                    for (int k = 0; k < 9; ++k) g[k][l] = from[flip ? 8 - k : k];
                }
                for (int j = 0; j < 3; ++j) {
                    for (int i = 0; i < 3; ++i) column[i] = g[i * 3 + j];
                    math::winograd_weight(column, six, T());
                    for (int i = 0; i < 6; ++i) mid[i][j] = six[i];
                }
                for (int i = 0; i < 6; ++i) {
                    math::winograd_weight(mid[i], six, T());
                    for (int j = 0; j < 6; ++j) store_lane<T>(six[j], u + ((i * 6 + j) * rows + r) * cols + s, count);
                }
            }
        }
    });
}

/// y = conv(x, w), or with `flip` the input gradient: x is dy [.., O] and y is dx [.., C]. g is the geometry of this
/// very pass (its input is x) and `pad` its padding.
template <class T>
void winograd_forward(const ConvGeometry& g, const T* x, const T* w, bool flip, T* y) {
    const TileGrid grid(g, sizeof(T));
    const TensorOptions made{.dtype = dtype_of<T>};
    const std::int64_t c = g.c_in, o = g.c_out, slab = std::min(grid.slab, grid.count());
    const Tensor weights = Tensor::empty({36, c, o}, made), inputs = Tensor::empty({36, slab, c}, made),
                 products = Tensor::empty({36, slab, o}, made);
    T *u = weights.data<T>(), *v = inputs.data<T>(), *m = products.data<T>();
    if (flip)
        winograd_weights(w, c, o, true, u);
    else
        winograd_weights(w, o, c, false, u);
    for (std::int64_t begin = 0; begin < grid.count(); begin += slab) {
        const std::int64_t end = std::min(grid.count(), begin + slab), tiles = end - begin;
        for_tiles(grid, begin, end, [&](std::int64_t t, std::int64_t n, std::int64_t y0, std::int64_t x0) {
            transform_in<6>(x + n * g.h * g.w * c, g.h, g.w, c, y0 - g.pad, x0 - g.pad, v + t * c, slab * c,
                            [](const LaneValue<T>* in, LaneValue<T>* out) { math::winograd_input(in, out); });
        });
        // Two column halves a product keep both cores busy to the end.
        const std::int64_t half = (o + 31) / 32 * 16, halves = (o + half - 1) / half;
        parallel_for(36 * halves, 1, [&](std::int64_t task, std::int64_t) {
            const std::int64_t k = task / halves, from = task % halves * half, count = std::min(half, o - from);
            MatrixView<T>(m + k * slab * o + from, tiles, count, Eigen::OuterStride<>(o)).noalias() =
                ConstMatrixView<T>(v + k * slab * c, tiles, c, Eigen::OuterStride<>(c)) *
                ConstMatrixView<T>(u + k * c * o + from, c, count, Eigen::OuterStride<>(o));
        });
        for_tiles(grid, begin, end, [&](std::int64_t t, std::int64_t n, std::int64_t y0, std::int64_t x0) {
            transform_out(m + t * o, slab * o, y + n * g.h_out() * g.w_out() * o, g.h_out(), g.w_out(), o, y0, x0);
        });
    }
}

/// dw = gradient of the weights: G^T [ sum over tiles (B^T d B) . (A dy A^T) ] G.
template <class T>
void winograd_dw(const ConvGeometry& g, const T* x, const T* dy, T* dw) {
    const TileGrid grid(g, sizeof(T));
    const TensorOptions made{.dtype = dtype_of<T>};
    const std::int64_t c = g.c_in, o = g.c_out, slab = std::max<std::int64_t>(1, std::min(grid.slab, grid.count()));
    const Tensor sums = Tensor::empty({36, c, o}, made), inputs = Tensor::empty({36, slab, c}, made),
                 outputs = Tensor::empty({36, slab, o}, made);
    T *acc = sums.data<T>(), *v = inputs.data<T>(), *z = outputs.data<T>();
    if (grid.count() == 0) std::memset(sums.raw(), 0, sums.bytes());
    for (std::int64_t begin = 0; begin < grid.count(); begin += slab) {
        const std::int64_t end = std::min(grid.count(), begin + slab), tiles = end - begin;
        for_tiles(grid, begin, end, [&](std::int64_t t, std::int64_t n, std::int64_t y0, std::int64_t x0) {
            transform_in<6>(x + n * g.h * g.w * c, g.h, g.w, c, y0 - g.pad, x0 - g.pad, v + t * c, slab * c,
                            [](const LaneValue<T>* in, LaneValue<T>* out) { math::winograd_input(in, out); });
            transform_in<4>(dy + n * g.h_out() * g.w_out() * o, g.h_out(), g.w_out(), o, y0, x0, z + t * o, slab * o,
                            [](const LaneValue<T>* in, LaneValue<T>* out) { math::winograd_output_gradient(in, out); });
        });
        const std::int64_t half = (o + 31) / 32 * 16, halves = (o + half - 1) / half;
        parallel_for(36 * halves, 1, [&](std::int64_t task, std::int64_t) {
            const std::int64_t k = task / halves, from = task % halves * half, count = std::min(half, o - from);
            MatrixView<T> sum(acc + k * c * o + from, c, count, Eigen::OuterStride<>(o));
            const ConstMatrixView<T> a(v + k * slab * c, tiles, c, Eigen::OuterStride<>(c)),
                b(z + k * slab * o + from, tiles, count, Eigen::OuterStride<>(o));
            if (begin == 0)
                sum.noalias() = a.transpose() * b;
            else
                sum.noalias() += a.transpose() * b;
        });
    }
    parallel_for(c, 8, [&](std::int64_t begin, std::int64_t end) {
        Lane<T> mid[3][6], six[6], three[3];
        for (std::int64_t s = 0; s < o; s += lane_width<T>) {
            const std::int64_t count = std::min<std::int64_t>(lane_width<T>, o - s);
            for (std::int64_t i = begin; i < end; ++i) {
                for (int b = 0; b < 6; ++b) {
                    for (int a = 0; a < 6; ++a) six[a] = load_lane(acc + ((a * 6 + b) * c + i) * o + s, count).v;
                    math::winograd_weight_gradient(six, three, T());
                    for (int a = 0; a < 3; ++a) mid[a][b] = three[a];
                }
                for (int a = 0; a < 3; ++a) {
                    math::winograd_weight_gradient(mid[a], three, T());
                    for (std::int64_t l = 0; l < count; ++l)
                        for (int b = 0; b < 3; ++b) dw[((s + l) * c + i) * 9 + a * 3 + b] = three[b][l];
                }
            }
        }
    });
}

}  // namespace bf::cpu

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "bf/base/random.hpp"
#include "bf/core/parallel.hpp"
#include "bf/kernels/dispatch.hpp"
#include "kernels/geometry_name.hpp"

namespace {

using bf::ConvAlgorithm;
using bf::ConvGeometry;
using bf::DType;
using bf::Format;
using bf::Tensor;

struct Problem {
    ConvGeometry g;
    Tensor x, w, dy;

    /// With images in bf16 weights are kept in f32, as in training; here their values are such that bf16 has them too.
    Problem(const ConvGeometry& geometry, DType dtype) : g(geometry) {
        bf::Rng rng(3);
        const auto draw = [&](const bf::Shape& shape, Format format, DType stored) {
            Tensor t = Tensor::empty(shape, {stored, bf::cpu_device, format});
            for (std::int64_t i = 0; i < t.numel(); ++i) {
                const float v = rng.normal();
                if (stored == DType::f64)
                    t.data<double>()[i] = static_cast<double>(v);
                else if (stored == DType::bf16)
                    t.data<bf::bf16>()[i] = bf::bf16(v);
                else
                    t.data<float>()[i] = dtype == DType::bf16 ? static_cast<float>(bf::bf16(v)) : v;
            }
            return t;
        };
        const DType master = dtype == DType::bf16 ? DType::f32 : dtype;
        x = draw({g.n, g.c_in, g.h, g.w}, Format::nhwc, dtype);
        w = draw({g.c_out, g.c_in / g.groups, g.kernel_h, g.kernel_w}, Format::plain, master);
        dy = draw({g.n, g.c_out, g.h_out(), g.w_out()}, Format::nhwc, dtype);
    }
};
double at(const Tensor& t, std::int64_t i) {
    if (t.dtype() == DType::f64) return t.data<double>()[i];
    return t.dtype() == DType::bf16 ? static_cast<double>(float(t.data<bf::bf16>()[i])) : t.data<float>()[i];
}

std::vector<double> values(const Tensor& t) {
    std::vector<double> v(static_cast<std::size_t>(t.numel()));
    for (std::int64_t i = 0; i < t.numel(); ++i) v[static_cast<std::size_t>(i)] = at(t, i);
    return v;
}

struct Passes {
    std::vector<double> y, dx, dw;
};

/// The formula: seven loops, in double.
Passes reference(const Problem& p) {
    const ConvGeometry& g = p.g;
    const std::int64_t in = g.c_in / g.groups, out = g.c_out / g.groups;
    const std::vector<double> x = values(p.x), w = values(p.w), dy = values(p.dy);
    Passes r{std::vector<double>(static_cast<std::size_t>(p.dy.numel())),
             std::vector<double>(static_cast<std::size_t>(p.x.numel())),
             std::vector<double>(static_cast<std::size_t>(p.w.numel()))};
    for (std::int64_t n = 0; n < g.n; ++n)
        for (std::int64_t oy = 0; oy < g.h_out(); ++oy)
            for (std::int64_t ox = 0; ox < g.w_out(); ++ox)
                for (std::int64_t o = 0; o < g.c_out; ++o)
                    for (std::int64_t c = 0; c < in; ++c)
                        for (std::int64_t ky = 0; ky < g.kernel_h; ++ky)
                            for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
                                const std::int64_t iy = oy * g.stride - g.pad + ky, ix = ox * g.stride - g.pad + kx;
                                if (iy < 0 || ix < 0 || iy >= g.h || ix >= g.w) continue;
                                const auto i = static_cast<std::size_t>(((n * g.h + iy) * g.w + ix) * g.c_in +
                                                                        o / out * in + c),
                                           k = static_cast<std::size_t>(((o * in + c) * g.kernel_h + ky) * g.kernel_w +
                                                                        kx),
                                           j = static_cast<std::size_t>(
                                               ((n * g.h_out() + oy) * g.w_out() + ox) * g.c_out + o);
                                r.y[j] += x[i] * w[k];
                                r.dx[i] += dy[j] * w[k];
                                r.dw[k] += dy[j] * x[i];
                            }
    return r;
}

struct Outputs {
    Tensor y, dx, dw;
};

/// Outputs start as NaN, so that an element that is not written shows.
Outputs run(const Problem& p, ConvAlgorithm algorithm) {
    Outputs o{Tensor::empty(p.dy.shape(), p.dy.options()), Tensor::empty(p.x.shape(), p.x.options()),
              Tensor::empty(p.w.shape(), p.w.options())};
    for (const Tensor& t : {o.y, o.dx, o.dw})
        bf::visit_stored(t.dtype(), "test", [&]<class T>() {
            std::fill_n(t.data<T>(), t.numel(), T(std::numeric_limits<float>::quiet_NaN()));
        });
    bf::Context ctx;
    bf::cpu_table().conv2d(ctx, p.g, algorithm, p.x, p.w, o.y);
    bf::cpu_table().conv2d_dx(ctx, p.g, algorithm, p.dy, p.w, o.dx);
    bf::cpu_table().conv2d_dw(ctx, p.g, algorithm, p.x, p.dy, o.dw);
    return o;
}

/// Largest difference, relative to the largest value.
double error(const Tensor& got, const std::vector<double>& want) {
    double worst = 0, largest = 1e-6;
    for (std::int64_t i = 0; i < got.numel(); ++i) {
        const double w = want[static_cast<std::size_t>(i)];
        if (!std::isfinite(at(got, i))) return std::numeric_limits<double>::infinity();
        worst = std::max(worst, std::abs(at(got, i) - w));
        largest = std::max(largest, std::abs(w));
    }
    return worst / largest;
}
void expect_close(const Problem& p, const Passes& want, ConvAlgorithm algorithm, double tolerance,
                  double dw_tolerance) {
    const Outputs got = run(p, algorithm);
    EXPECT_LE(error(got.y, want.y), tolerance) << "forward";
    EXPECT_LE(error(got.dx, want.dx), tolerance) << "dx";
    EXPECT_LE(error(got.dw, want.dw), dw_tolerance) << "dw";
}
void expect_close(const Problem& p, ConvAlgorithm algorithm, double tolerance) {
    expect_close(p, reference(p), algorithm, tolerance, tolerance);
}

//                                     n  c_in  h   w  c_out kh kw s  p  groups
const ConvGeometry geometries[] = {
    {2, 3, 7, 6, 5, 3, 3, 1, 1, 1},     {2, 20, 9, 10, 33, 3, 3, 1, 1, 1}, {1, 17, 5, 5, 18, 3, 3, 2, 1, 1},
    {2, 40, 8, 8, 70, 3, 3, 2, 1, 1},   {2, 4, 8, 9, 6, 1, 1, 1, 0, 1},    {2, 40, 7, 9, 6, 1, 1, 2, 0, 1},
    {1, 3, 11, 11, 4, 7, 7, 2, 3, 1},   {1, 2, 9, 9, 3, 3, 3, 3, 0, 1},    {2, 8, 6, 6, 12, 3, 3, 1, 1, 4},
    {2, 19, 6, 7, 19, 3, 3, 1, 1, 19},  {1, 19, 7, 7, 19, 7, 7, 1, 0, 19}, {2, 19, 7, 7, 19, 3, 3, 2, 1, 19},
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 1},     {3, 16, 1, 1, 16, 3, 3, 1, 1, 1},  {2, 5, 6, 8, 7, 3, 5, 1, 2, 1},
    {9, 24, 12, 12, 24, 3, 3, 1, 1, 1}, {2, 12, 6, 7, 12, 3, 3, 1, 1, 6},  {3, 9, 7, 5, 9, 3, 5, 2, 2, 3},
    {1, 10, 5, 5, 10, 3, 3, 1, 0, 2}};

// Sizes that real runs reach: more than one slab of Winograd tiles, the last one short, and more than one block of
// output pixels in the weight gradient of a strided convolution.
TEST(Conv, SeveralSlabsAndBlocks) {
    expect_close(Problem({6, 16, 120, 124, 16, 3, 3, 1, 1, 1}, DType::f32), ConvAlgorithm::winograd, 2e-5);
    expect_close(Problem({2, 40, 70, 70, 4, 3, 3, 2, 1, 1}, DType::f64), ConvAlgorithm::automatic, 1e-12);
}

TEST(Conv, EveryGeometryInF64) {
    for (const ConvGeometry& g : geometries) {
        SCOPED_TRACE(name(g));
        expect_close(Problem(g, DType::f64), ConvAlgorithm::automatic, 1e-13);
    }
}

// Winograd in f32 loses about one digit: its error, relative to the largest output, stays below 2e-5.
TEST(Conv, EveryGeometryInF32) {
    for (const ConvGeometry& g : geometries) {
        SCOPED_TRACE(name(g));
        expect_close(Problem(g, DType::f32), ConvAlgorithm::automatic, 2e-5);
        expect_close(Problem(g, DType::f32), ConvAlgorithm::direct, 2e-6);
    }
}

// Channels in whole steps of the processor's tiles, where it has them: images side by side and in strips, every
// remainder by the stride, output channels that fill no block, 1x1 in place.
const ConvGeometry tile_geometries[] = {
    {2, 32, 9, 10, 33, 3, 3, 1, 1, 1},  {3, 64, 7, 7, 96, 3, 3, 1, 1, 1},    {2, 32, 14, 13, 32, 3, 3, 2, 1, 1},
    {2, 96, 8, 8, 64, 1, 1, 1, 0, 1},   {2, 64, 7, 9, 32, 1, 1, 2, 0, 1},    {1, 32, 11, 11, 32, 7, 7, 2, 3, 1},
    {1, 32, 9, 9, 64, 3, 3, 3, 0, 1},   {2, 32, 6, 8, 32, 3, 5, 1, 2, 1},    {1, 32, 5, 5, 32, 1, 1, 1, 1, 1},
    {2, 32, 6, 6, 32, 3, 3, 1, 3, 1},   {1, 32, 130, 70, 32, 3, 3, 1, 1, 1}, {1, 32, 120, 70, 32, 3, 3, 2, 1, 1},
    {17, 32, 14, 14, 32, 3, 3, 1, 1, 1}};

// Outputs are rounded to bf16 once, by at most 2^-8; sums of pairs are made in f32, those of Winograd lose a digit of
// it.
TEST(Conv, EveryGeometryInBf16) {
    const auto all = [](const auto& list, double dw_tolerance) {
        for (const ConvGeometry& g : list) {
            SCOPED_TRACE(name(g));
            const bool depthwise = g.groups > 1;  // widened, and rounded as a whole
            const Problem p(g, DType::bf16);
            const Passes want = reference(p);
            expect_close(p, want, ConvAlgorithm::automatic, 4e-3, depthwise ? 4e-3 : dw_tolerance);
            expect_close(p, want, ConvAlgorithm::direct, 4e-3, depthwise ? 4e-3 : 4e-6);
        }
    };
    all(geometries, 2e-5);
    all(tile_geometries, 2e-5);
}

TEST(Winograd, IsTheSameFormula) {
    for (const ConvGeometry& g :
         {ConvGeometry{2, 20, 9, 10, 33, 3, 3, 1, 1, 1}, ConvGeometry{1, 3, 4, 4, 2, 3, 3, 1, 1, 1},
          ConvGeometry{2, 5, 7, 6, 4, 3, 3, 1, 0, 1}, ConvGeometry{2, 5, 7, 6, 4, 3, 3, 1, 2, 1},
          ConvGeometry{1, 2, 1, 1, 3, 3, 3, 1, 1, 1}})
        expect_close(Problem(g, DType::f64), ConvAlgorithm::winograd, 1e-12);
}

TEST(Conv, NoImagesGiveAZeroWeightGradient) {
    for (const std::int64_t c : {4, 32, 40}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            const Outputs o = run(Problem({0, c, 6, 6, 20, 3, 3, 1, 1, 1}, dtype), ConvAlgorithm::automatic);
            for (std::int64_t i = 0; i < o.dw.numel(); ++i) ASSERT_EQ(at(o.dw, i), 0);
        }
    }
}

TEST(Conv, SameBitsOnAnyNumberOfThreads) {
    const int before = bf::cpu_pool().threads();
    const auto all = [](const auto& list, DType dtype) {
        for (const ConvGeometry& g : list) {
            const Problem p(g, dtype);
            bf::cpu_pool().resize(1);
            const Outputs one = run(p, ConvAlgorithm::automatic);
            for (const int threads : {2, 3}) {
                bf::cpu_pool().resize(threads);
                const Outputs many = run(p, ConvAlgorithm::automatic);
                EXPECT_EQ(std::memcmp(one.y.raw(), many.y.raw(), one.y.bytes()), 0);
                EXPECT_EQ(std::memcmp(one.dx.raw(), many.dx.raw(), one.dx.bytes()), 0);
                EXPECT_EQ(std::memcmp(one.dw.raw(), many.dw.raw(), one.dw.bytes()), 0);
            }
        }
    };
    all(geometries, DType::f32);
    all(tile_geometries, DType::bf16);
    bf::cpu_pool().resize(before);
}

}  // namespace

// Which library computes convolutions on the CPU, and oneDNN's against our own in f64.
#include "bf/kernels/cpu_backend.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "bf/base/random.hpp"
#include "bf/core/parallel.hpp"
#include "bf/kernels/dispatch.hpp"
#include "errors.hpp"
#include "kernels/geometry_name.hpp"
#ifdef BF_HAVE_ONEDNN
#include "src/onednn_conv.hpp"
#endif

namespace {

using bf::CpuConv;

TEST(CpuBackend, WordsOfTheVariable) {
    EXPECT_EQ(bf::parse_cpu_conv(nullptr), CpuConv::automatic);
    EXPECT_EQ(bf::parse_cpu_conv("auto"), CpuConv::automatic);
    EXPECT_EQ(bf::parse_cpu_conv("own"), CpuConv::own);
    EXPECT_EQ(bf::parse_cpu_conv("onednn"), CpuConv::onednn);
    for (const char* wrong : {"", "OWN", "mkldnn"})
        EXPECT_TRUE(has(message([&] { bf::parse_cpu_conv(wrong); }), "want auto, own or onednn")) << wrong;
}

TEST(CpuBackend, SaysWhatItIs) {
    EXPECT_EQ(bf::CpuBackend{}.str(), "built without oneDNN");
    EXPECT_EQ((bf::CpuBackend{CpuConv::own, "2.6.3", ""}.str()), "oneDNN 2.6.3: not used");
    EXPECT_EQ((bf::CpuBackend{CpuConv::onednn, "2.6.3", "all"}.str()), "oneDNN 2.6.3: all");
    EXPECT_EQ((bf::CpuBackend{CpuConv::own, "2.6.3", "", true}.str()), "own AMX tiles, oneDNN 2.6.3: not used");
}

#ifndef BF_HAVE_ONEDNN
TEST(CpuBackend, WithoutOneDnnItIsRefused) {
    EXPECT_EQ(bf::cpu_backend().onednn, "");
    EXPECT_TRUE(has(message([] { bf::choose_cpu_conv(CpuConv::onednn); }), "hint: install oneDNN"));
}
TEST(OneDnn, IsTheSameFormula) { GTEST_SKIP() << "this build has no oneDNN"; }
#else

using bf::ConvAlgorithm;
using bf::ConvGeometry;
using bf::DType;
using bf::Format;
using bf::Tensor;

/// A choice that ends with the scope.
class Choice {
  public:
    explicit Choice(CpuConv choice) { bf::choose_cpu_conv(choice); }
    ~Choice() { bf::choose_cpu_conv(before_); }

  private:
    CpuConv before_ = bf::cpu_backend().choice;
};

Tensor as(const Tensor& t, DType dtype) {
    const Tensor y = Tensor::empty(t.shape(), {dtype, bf::cpu_device, t.format()});
    bf::Context context;
    bf::cpu_table().convert(context, t, y);
    return y;
}

/// Images hold values of bf16, so that they are the same in each type; weights are f32.
struct Problem {
    ConvGeometry g;
    Tensor x, w, dy;

    explicit Problem(const ConvGeometry& geometry) : g(geometry) {
        bf::Rng rng(5);
        const auto draw = [&](const bf::Shape& shape, Format format) {
            const Tensor t = Tensor::empty(shape, {DType::f32, bf::cpu_device, format});
            for (float& v : t.span<float>()) v = rng.normal();
            return t;
        };
        x = as(as(draw({g.n, g.c_in, g.h, g.w}, Format::nhwc), DType::bf16), DType::f32);
        w = draw({g.c_out, g.c_in / g.groups, g.kernel_h, g.kernel_w}, Format::plain);
        dy = as(as(draw({g.n, g.c_out, g.h_out(), g.w_out()}, Format::nhwc), DType::bf16), DType::f32);
    }
};

struct Passes {
    Tensor y, dx, dw;
};
/// The passes by cpu_table(), images in `images`, weights in `weights`. Outputs start as NaN.
Passes run(const Problem& p, DType images, DType weights, ConvAlgorithm algorithm = ConvAlgorithm::direct) {
    const Tensor x = as(p.x, images), dy = as(p.dy, images), w = as(p.w, weights);
    const Passes o{Tensor::empty(dy.shape(), dy.options()), Tensor::empty(x.shape(), x.options()),
                   Tensor::empty(w.shape(), w.options())};
    for (const Tensor& t : {o.y, o.dx, o.dw}) std::memset(t.raw(), 0xFF, t.bytes());
    bf::Context context;
    bf::cpu_table().conv2d(context, p.g, algorithm, x, w, o.y);
    bf::cpu_table().conv2d_dx(context, p.g, algorithm, dy, w, o.dx);
    bf::cpu_table().conv2d_dw(context, p.g, algorithm, x, dy, o.dw);
    return o;
}

/// Largest difference, relative to the largest value.
double error(const Tensor& got, const Tensor& want) {
    const Tensor wide = as(got, DType::f64);
    double worst = 0, largest = 1e-6;
    for (std::int64_t i = 0; i < wide.numel(); ++i) {
        const double w = want.data<double>()[i], g = wide.data<double>()[i];
        if (!std::isfinite(g)) return std::numeric_limits<double>::infinity();
        worst = std::max(worst, std::abs(g - w));
        largest = std::max(largest, std::abs(w));
    }
    return worst / largest;
}
bool same_bits(const Tensor& a, const Tensor& b) { return std::memcmp(a.raw(), b.raw(), a.bytes()) == 0; }

// Whole images, bands of one image, and weight gradients by parts of the images and by slices of the channels.
//                                     n  c_in  h   w  c_out kh kw s  p  groups
const ConvGeometry geometries[] = {
    {3, 3, 30, 30, 64, 3, 3, 1, 1, 1},    {1, 3, 56, 60, 64, 3, 3, 1, 1, 1},   {16, 64, 14, 14, 64, 3, 3, 2, 1, 1},
    {16, 64, 14, 14, 128, 1, 1, 2, 0, 1}, {3, 64, 28, 28, 128, 3, 3, 1, 1, 1}, {1, 32, 28, 28, 48, 3, 3, 2, 1, 1},
    {16, 128, 7, 7, 256, 3, 3, 1, 1, 1},  {1, 256, 7, 7, 192, 3, 3, 1, 1, 1},  {3, 64, 9, 11, 64, 3, 3, 1, 0, 1},
    {3, 16, 23, 21, 32, 7, 7, 2, 3, 1},   {1, 16, 40, 20, 32, 7, 7, 2, 3, 1},  {3, 64, 7, 7, 64, 1, 1, 1, 0, 1},
    {17, 32, 5, 5, 32, 3, 3, 1, 1, 1},    {3, 64, 14, 14, 64, 3, 3, 1, 1, 64}, {3, 64, 7, 7, 64, 7, 7, 1, 0, 64},
    {2, 5, 6, 8, 7, 3, 5, 1, 2, 1},       {1, 1, 1, 1, 1, 1, 1, 1, 0, 1}};

TEST(OneDnn, IsTheSameFormulaInF32) {
    const Choice onednn(CpuConv::onednn);
    for (const ConvGeometry& g : geometries) {
        SCOPED_TRACE(name(g));
        const Problem p(g);
        const Passes want = run(p, DType::f64, DType::f64), got = run(p, DType::f32, DType::f32);
        EXPECT_LE(error(got.y, want.y), 2e-6);
        EXPECT_LE(error(got.dx, want.dx), 2e-6);
        EXPECT_LE(error(got.dw, want.dw), 2e-6);
    }
}

// y and dx are rounded to bf16 (2^-9 of a value at most) and so are the weights in them, whose roundings mostly cancel:
// together below 2^-8 of the largest value. dw has exact products, summed and kept in f32.
TEST(OneDnn, IsTheSameFormulaInBf16) {
    const Choice onednn(CpuConv::onednn);
    for (const ConvGeometry& g : geometries) {
        SCOPED_TRACE(name(g));
        const Problem p(g);
        const Passes want = run(p, DType::f64, DType::f64), got = run(p, DType::bf16, DType::f32);
        EXPECT_LE(error(got.y, want.y), 0x1p-8);
        EXPECT_LE(error(got.dx, want.dx), 0x1p-8);
        EXPECT_LE(error(got.dw, want.dw), 2e-6);
    }
}

TEST(OneDnn, SameBitsOnAnyNumberOfThreads) {
    const Choice onednn(CpuConv::onednn);
    const int before = bf::cpu_pool().threads();
    for (const ConvGeometry& g : geometries)
        for (const DType dtype : {DType::f32, DType::bf16}) {
            SCOPED_TRACE(name(g));
            const Problem p(g);
            bf::cpu_pool().resize(1);
            const Passes one = run(p, dtype, DType::f32);
            for (const int threads : {2, 5}) {
                bf::cpu_pool().resize(threads);
                const Passes many = run(p, dtype, DType::f32);
                EXPECT_TRUE(same_bits(one.y, many.y));
                EXPECT_TRUE(same_bits(one.dx, many.dx));
                EXPECT_TRUE(same_bits(one.dw, many.dw));
            }
        }
    bf::cpu_pool().resize(before);
}

TEST(OneDnn, SameBitsAtAnyAddress) {
    const Choice onednn(CpuConv::onednn);
    for (const ConvGeometry& g : {geometries[4], geometries[6]}) {
        Problem p(g);
        const Passes one = run(p, DType::f32, DType::f32);
        std::vector<Tensor> buffers;
        for (Tensor* t : {&p.x, &p.w, &p.dy}) {
            buffers.push_back(Tensor::empty({t->numel() + 1}));
            const Tensor moved = Tensor::over(buffers.back().data<float>() + 1, t->shape(), t->options());
            moved.copy_from(*t);
            *t = moved;
        }
        const Passes other = run(p, DType::f32, DType::f32);
        EXPECT_TRUE(same_bits(one.y, other.y) && same_bits(one.dx, other.dx) && same_bits(one.dw, other.dw));
    }
}

TEST(OneDnn, ThreadsOfTheCallerAtOnce) {
    const Choice onednn(CpuConv::onednn);
    const Problem p(geometries[4]);
    const Passes want = run(p, DType::bf16, DType::f32);
    std::vector<std::thread> callers;
    bool same[3] = {};
    for (bool& ok : same)
        callers.emplace_back([&] {
            const Passes got = run(p, DType::bf16, DType::f32);
            ok = same_bits(got.y, want.y) && same_bits(got.dx, want.dx) && same_bits(got.dw, want.dw);
        });
    for (std::thread& t : callers) t.join();
    for (const bool ok : same) EXPECT_TRUE(ok);
}

TEST(OneDnn, NoImagesGiveAZeroWeightGradient) {
    const Choice onednn(CpuConv::onednn);
    for (const DType dtype : {DType::f32, DType::bf16}) {
        const Passes o = run(Problem({0, 64, 7, 7, 128, 3, 3, 1, 1, 1}), dtype, DType::f32);
        for (const float v : o.dw.span<float>()) ASSERT_EQ(v, 0);
    }
}

TEST(OneDnn, ComputesWhatItIsChosenFor) {
    if (!bf::onednn::has_amx()) GTEST_SKIP() << "this processor has no AMX";
    for (const ConvGeometry& g : geometries) {
        if (g.c_in % 16 != 0 && g.c_in != 3) continue;
        SCOPED_TRACE(name(g));
        const Problem p(g);
        const Tensor x = as(p.x, DType::bf16), dy = as(p.dy, DType::bf16);
        EXPECT_TRUE(bf::onednn::conv2d(g, x, p.w, dy));
        EXPECT_TRUE(bf::onednn::conv2d_dx(g, dy, p.w, x));
        EXPECT_TRUE(bf::onednn::conv2d_dw(g, x, dy, p.w));
    }
}

TEST(OneDnn, ChoiceDecidesWhoComputes) {
    const Problem p({3, 64, 28, 28, 64, 3, 3, 1, 1, 1});
    const auto y = [&](CpuConv choice, DType dtype, ConvAlgorithm algorithm) {
        const Choice chosen(choice);
        return run(p, dtype, DType::f32, algorithm).y;
    };
    const auto direct = ConvAlgorithm::direct, winograd = ConvAlgorithm::winograd, automatic = ConvAlgorithm::automatic;
    // Winograd here, the formula there
    EXPECT_FALSE(same_bits(y(CpuConv::own, DType::f32, automatic), y(CpuConv::onednn, DType::f32, automatic)));
    EXPECT_TRUE(same_bits(y(CpuConv::own, DType::f32, winograd), y(CpuConv::onednn, DType::f32, winograd)));
    EXPECT_TRUE(same_bits(y(CpuConv::own, DType::f32, direct), y(CpuConv::automatic, DType::f32, direct)));
    const CpuConv fast = bf::onednn::has_amx() && !bf::cpu_backend().tiles ? CpuConv::onednn : CpuConv::own;
    EXPECT_TRUE(same_bits(y(fast, DType::bf16, direct), y(CpuConv::automatic, DType::bf16, direct)));
}

extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int);
}
TEST(OneDnn, LeavesTheCallersOpenMpAlone) {
    const Choice onednn(CpuConv::onednn);
    const int before = omp_get_max_threads();
    omp_set_num_threads(3);
    run(Problem(geometries[0]), DType::bf16, DType::f32);
    EXPECT_EQ(omp_get_max_threads(), 3);
    omp_set_num_threads(before);
}

#endif

}  // namespace

// The CPU's classifier: its exponential, gradients whose bits depend neither on which logits were kept nor on the
// number of threads, and products of operands rounded to bf16.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_exp.hpp"
#include "bf/nn/init.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/margin_softmax.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/ops/reduce.hpp"

namespace {

namespace cpu = bf::cpu;
using bf::DType;
using bf::Tensor;
using bf::Var;

template <class T>
T exponential(T x) {
    return cpu::exponential<T>(cpu::broadcast(x))[0];
}

TEST(VectorExponential, IsNearStdExpOverItsRange) {
    double worst = 0;
    for (std::int64_t i = 0; i <= 3500000; ++i) {
        const float x = -87.0f + 5e-5f * static_cast<float>(i);
        const double want = std::exp(static_cast<double>(x));
        worst = std::max(worst, std::abs(static_cast<double>(exponential(x)) - want) / want);
    }
    EXPECT_LT(worst, 1.5e-7);
    for (double x = -700; x < 700; x += 0.37) EXPECT_NEAR(exponential(x) / std::exp(x), 1, 1e-15);
}

TEST(VectorExponential, Ends) {
    constexpr float none = -std::numeric_limits<float>::infinity();
    EXPECT_EQ(exponential(0.0f), 1.0f);
    EXPECT_EQ(exponential(-0.0f), 1.0f);
    for (float x : {-87.01f, -104.0f, -1e9f, std::numeric_limits<float>::lowest(), none}) EXPECT_EQ(exponential(x), 0);
    for (float x : {88.01f, 1e9f, -none}) EXPECT_EQ(exponential(x), exponential(88.0f));
    EXPECT_TRUE(std::isfinite(exponential(88.0f)));
    EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
    EXPECT_EQ(exponential(0.0), 1.0);
    EXPECT_EQ(exponential(static_cast<double>(none)), 0.0);
    const cpu::Vector<float> lanes = cpu::exponential<float>(cpu::broadcast(none));
    for (std::int64_t l = 0; l < cpu::lanes<float>; ++l) EXPECT_EQ(lanes[l], 0);
}

Tensor labels_of(std::int64_t n, std::int64_t classes) {
    Tensor y = Tensor::empty({n}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i * 31 % classes;
    return y;
}

/// Rows of D values with labels below `labels`.
bf::ClassifierRows random_rows(bf::Init& init, std::int64_t n, std::int64_t dim, std::int64_t labels) {
    return {.x = init.normal({n, dim}, 1),
            .inverse_norm = {},
            .labels = labels_of(n, labels),
            .target_logit = {},
            .slope = {},
            .log_sum_exp = {}};
}

/// Statistics, losses and gradients of a batch and a queue against W, whose classes begin at 5; each set may keep
/// `kept` logits. Per set: largest, sum, cosine, loss; then dx, dw.
std::vector<Tensor> passes(const Tensor& w, std::vector<bf::ClassifierRows> sets, std::int64_t kept,
                           DType products = DType::f32, double scale = 16) {
    const bf::KernelTable& k = bf::kernels(bf::cpu_device);
    bf::Context& c = bf::context(bf::cpu_device);
    const auto unwritten = [&](const bf::Shape& shape) { return bf::full(shape, std::nan(""), w.dtype()); };
    bf::ClassifierWeights weights{w, unwritten({w.dim(0)}), 5, scale, products};
    k.inverse_norms(c, w, weights.inverse_norm);
    std::vector<Tensor> results;
    for (bf::ClassifierRows& rows : sets) {
        if (kept) rows.kept = unwritten({kept});
        const auto s = bf::classifier_statistics(rows, weights);
        Tensor loss, correct;
        bf::detail::finish_rows(rows, s, scale, bf::arcface(scale), loss, correct);
        results.insert(results.end(), {s.largest, s.sum, s.cosine, loss});
    }
    const Tensor seed = bf::full({}, 0.5, w.dtype()), dx = unwritten(sets[0].x.shape()), dw = unwritten(w.shape());
    k.classifier_dx(c, sets[0], 0.25, seed, weights, dx);
    k.classifier_dw(c, sets.data(), static_cast<int>(sets.size()), 0.125, seed, weights, dw);
    results.insert(results.end(), {dx, dw});
    return results;
}

TEST(CpuClassifier, TheSameBitsWhateverIsKeptAndOnAnyThreads) {
    const int threads = bf::cpu_pool().threads();
    const struct {
        DType dtype, products;
    } kinds[] = {{DType::f32, DType::f32}, {DType::f64, DType::f32}, {DType::f32, DType::bf16}};
    for (const auto& kind : kinds)
        for (const std::int64_t classes : {std::int64_t{1}, std::int64_t{50}, std::int64_t{1100}}) {
            bf::Init init(2, kind.dtype);
            // more than one group of rows
            const std::int64_t batch = 45, queue = kind.products == DType::bf16 ? 4200 : 2100;
            const Tensor w = init.normal({classes, 35}, 0.1);
            const std::vector<bf::ClassifierRows> sets{random_rows(init, batch, 35, classes + 10),
                                                       random_rows(init, queue, 35, classes + 10)};
            bf::cpu_pool().resize(1);
            const auto want = passes(w, sets, 0, kind.products);
            for (const Tensor& t : want)
                for (std::int64_t i = 0; classes > 1 && i < t.numel(); ++i)
                    ASSERT_TRUE(std::isfinite(t.dtype() == DType::f32 ? t.data<float>()[i] : t.data<double>()[i]));
            for (const int n : {1, 2, 5})
                for (const std::int64_t kept : {std::int64_t{0}, std::int64_t{10}, bf::kept_size(batch, classes),
                                                bf::kept_size(queue, classes) / 2, bf::kept_size(queue, classes)}) {
                    bf::cpu_pool().resize(n);
                    const auto got = passes(w, sets, kept, kind.products);
                    for (std::size_t i = 0; i < want.size(); ++i)
                        EXPECT_EQ(std::memcmp(got[i].raw(), want[i].raw(), want[i].bytes()), 0)
                            << "result " << i << ", products " << bf::name_of(kind.products) << ", classes " << classes
                            << ", threads " << n << ", kept " << kept;
                }
        }
    bf::cpu_pool().resize(threads);
}

Tensor in_f64(const Tensor& t) {
    Tensor out = Tensor::empty(t.shape(), {.dtype = DType::f64});
    bf::kernels(bf::cpu_device).convert(bf::context(bf::cpu_device), t, out);
    return out;
}

// Each operand is rounded by 2^-9 of itself at most; over D terms of random signs that is about s 2^-9 / sqrt(D) in a
// logit, and eight times as much bounds all that are looked at here.
TEST(CpuClassifier, ProductsInBf16AreNearF64) {
    const struct {
        std::int64_t dim, classes, batch, queue;
        double scale;
    } shapes[] = {{512, 1500, 64, 300, 64}, {128, 3001, 33, 4200, 32}, {40, 77, 5, 40, 16},
                  {33, 260, 1, 31, 16},     {7, 31, 40, 1, 4},         {64, 1, 3, 33, 16}};
    for (const auto& shape : shapes) {
        SCOPED_TRACE(bf::concat("D ", shape.dim, " K ", shape.classes, " B ", shape.batch, " Q ", shape.queue));
        bf::Init init(6);
        const Tensor w = init.normal({shape.classes, shape.dim}, 0.01);
        std::vector<bf::ClassifierRows> sets{random_rows(init, shape.batch, shape.dim, shape.classes + 10),
                                             random_rows(init, shape.queue, shape.dim, shape.classes + 10)};
        const auto got = passes(w, sets, 0, DType::bf16, shape.scale),
                   whole = passes(w, sets, 0, DType::f32, shape.scale);
        for (bf::ClassifierRows& rows : sets) rows.x = in_f64(rows.x);
        const auto want = passes(in_f64(w), sets, 0, DType::f32, shape.scale);
        const double near = shape.scale / 64 / std::sqrt(static_cast<double>(shape.dim));
        for (std::size_t set = 0; set < 2; ++set)
            for (std::int64_t i = 0; i < sets[set].count(); ++i) {
                const auto value = [&](std::size_t j) {
                    return static_cast<double>(got[4 * set + j].data<float>()[i]);
                };
                const auto exact = [&](std::size_t j) { return want[4 * set + j].data<double>()[i]; };
                EXPECT_NEAR(value(2), exact(2), 1e-6);
                if (exact(1) == 0) {  // there is no other class
                    EXPECT_EQ(value(0), exact(0));
                    EXPECT_EQ(value(1), 0);
                    continue;
                }
                EXPECT_NEAR(value(0), exact(0), near);
                EXPECT_NEAR(value(0) + std::log(value(1)), exact(0) + std::log(exact(1)), near);
            }
        for (std::size_t g = 8; g < 10; ++g) {
            double top = 0, worst = 0, other = 0;
            for (std::int64_t i = 0; i < want[g].numel(); ++i) {
                const double exact = want[g].data<double>()[i], value = static_cast<double>(got[g].data<float>()[i]);
                top = std::max(top, std::abs(exact));
                ASSERT_EQ(std::isfinite(value), std::isfinite(exact));
                worst = std::max(worst, std::abs(value - exact));
                other = std::max(other, std::abs(value - static_cast<double>(whole[g].data<float>()[i])));
            }
            EXPECT_LE(worst, 0.01 * top);
            EXPECT_EQ(other > 0, cpu::multiplies_pairs && top > 0);  // it is not the product of f32
        }
    }
}

TEST(CpuClassifier, WithoutRowsTheGradientIsZero) {
    const Tensor w = bf::full({3, 4}, 1), dw = bf::full({3, 4}, std::nan(""));
    const bf::ClassifierWeights weights{w, bf::full({3}, 0.5), 0, 16};
    bf::kernels(bf::cpu_device).classifier_dw(bf::context(bf::cpu_device), nullptr, 0, 1, bf::full({}, 1), weights, dw);
    for (const float v : dw.span<float>()) EXPECT_EQ(v, 0);
}

// Batch and queue over several groups of rows, against ops that hold the logits.
TEST(CpuClassifier, EqualsTheFormulaOfBatchAndQueue) {
    const std::int64_t b = 40, q = 2100, d = 19, k = 260;
    for (const DType dtype : {DType::f64, DType::f32}) {
        bf::Init init(3, DType::f64);
        const Tensor x = init.normal({b + q, d}, 1), w0 = init.normal({k, d}, 0.1), y = labels_of(b + q, k);
        const auto cast = [&](const Tensor& t) {
            Tensor out = Tensor::empty(t.shape(), {.dtype = dtype});
            bf::kernels(bf::cpu_device).convert(bf::context(bf::cpu_device), t, out);
            return out;
        };
        const Var e = Var::leaf(cast(x.rows(0, b))), w = Var::leaf(cast(w0));
        const auto fused = bf::margin_softmax(
            e, w, y.rows(0, b),
            {.margin = bf::normalized_softmax(16), .memory = {cast(x.rows(b, b + q)), y.rows(b, b + q), q}});
        bf::backward(fused.loss);
        const auto formula = [&](const Var& rows, const Var& weight, const Tensor& labels) {
            return bf::mean(bf::softmax_cross_entropy(
                16.0 * bf::linear(bf::normalize_rows(rows), bf::normalize_rows(weight)), labels));
        };
        const Var e2 = Var::leaf(x.rows(0, b)), w2 = Var::leaf(w0);
        const Var batch_loss = formula(e2, Var(w0), y.rows(0, b)), all = formula(Var(x), w2, y);
        bf::backward(batch_loss);
        bf::backward(all);
        const double near = dtype == DType::f64 ? 1e-12 : 1e-5;
        EXPECT_NEAR(fused.loss.value().item(), batch_loss.value().item(), near);
        EXPECT_NEAR(fused.classifier_loss.item(), all.value().item(), near);
        const auto expect_near = [&](const Tensor& got, const Tensor& want) {
            double top = 0;
            for (const double v : want.span<double>()) top = std::max(top, std::abs(v));
            for (std::int64_t i = 0; i < want.numel(); ++i)
                ASSERT_NEAR(dtype == DType::f32 ? static_cast<double>(got.data<float>()[i]) : got.data<double>()[i],
                            want.data<double>()[i], near * top);
        };
        expect_near(e.grad(), e2.grad());
        expect_near(w.grad(), w2.grad());
    }
}

TEST(CpuClassifier, NotANumberReachesTheLoss) {
    const std::int64_t b = 33, d = 8, k = 400;
    bf::Init init(4);
    const Tensor x = init.normal({b, d}, 1);
    x.data<float>()[7 * d] = std::nanf("");
    const Var e(x), w(init.normal({k, d}, 0.1));
    EXPECT_TRUE(std::isnan(bf::margin_softmax(e, w, labels_of(b, k), {}).loss.value().item()));
}

TEST(CpuClassifier, KeepsAsManyLogitsAsItIsTold) {
    const std::int64_t b = 32, d = 16, k = 20000, q = 992;  // 82 MB of logits
    bf::Init init(6);
    const Var e = Var::leaf(init.normal({b, d}, 1)), w = Var::leaf(init.normal({k, d}, 0.1));
    const Tensor memory = init.normal({q, d}, 1), y = labels_of(b, k), yq = labels_of(q, k);
    std::vector<Tensor> gradients;
    for (const std::int64_t mib : {0, 16, 1024}) {
        w.zero_grad();
        bf::cpu_allocator().reset_peak();
        const auto before = bf::cpu_allocator().stats().in_use;
        bf::backward(
            bf::margin_softmax(e, w, y, {.margin = bf::arcface(), .memory = {memory, yq, q}, .kept_bytes = mib << 20})
                .loss);
        const auto peak = bf::cpu_allocator().stats().peak - before;
        const auto kept = static_cast<std::size_t>(std::min<std::int64_t>(mib << 20, 4 * k * (b + q)));
        EXPECT_GE(peak, kept) << mib;
        EXPECT_LT(peak, kept + (std::size_t{12} << 20)) << mib;
        gradients.push_back(w.grad().clone());
    }
    for (const Tensor& g : gradients) EXPECT_EQ(std::memcmp(g.raw(), gradients[0].raw(), g.bytes()), 0);
}

// However many rows: the kept logits, packed rows and sums.
TEST(CpuClassifier, MemoryIsBounded) {
    const std::int64_t b = 64, q = 20000, d = 64, k = 3000;
    bf::Init init(5);
    const Var e = Var::leaf(init.normal({b, d}, 1)), w = Var::leaf(init.normal({k, d}, 0.1));
    const Tensor memory = init.normal({q, d}, 1), y = labels_of(b, k), yq = labels_of(q, k);
    for (const DType products : {DType::f32, DType::bf16}) {
        const bf::MarginSoftmaxOptions options{
            .margin = bf::arcface(), .memory = {memory, yq, q}, .products = products};
        bf::cpu_allocator().reset_peak();
        const auto before = bf::cpu_allocator().stats().in_use;
        bf::backward(bf::margin_softmax(e, w, y, options).loss);
        EXPECT_LT(bf::cpu_allocator().stats().peak - before, std::size_t{80} << 20);  // of 229 MiB of logits
        bf::cpu_allocator().reset_peak();
        {
            const bf::NoGrad none;
            bf::margin_softmax(e, w, y, options);
        }
        EXPECT_LT(bf::cpu_allocator().stats().peak - bf::cpu_allocator().stats().in_use, std::size_t{8} << 20);
    }
}

}  // namespace

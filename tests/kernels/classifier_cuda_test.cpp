// Products and the tiled classifier on a GPU against the CPU, at sizes that need several tiles of rows and of classes.
// Skipped, with the reason, where there is no backend or no GPU. BF_CUDA_TF32=0 holds f32 to 1e-4.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/ops/margin_softmax.hpp"

namespace {

using bf::DType;
using bf::Tensor;
using bf::Var;

constexpr bf::Device gpu{bf::DeviceType::cuda, 0};

/// Why nothing can run here; empty where a GPU answers.
std::string no_gpu() {
    try {
        bf::context(gpu);
        return {};
    } catch (const bf::Error& error) {
        return error.what();
    }
}

#define SKIP_WITHOUT_GPU() \
    if (const std::string reason = no_gpu(); !reason.empty()) GTEST_SKIP() << reason

/// Relative to the largest value: f32 products may use TF32, whose operands keep 10 bits.
double tolerance(DType dtype) {
    const char* tf32 = std::getenv("BF_CUDA_TF32");
    if (dtype == DType::f64) return 1e-11;
    return tf32 != nullptr && std::string(tf32) == "0" ? 1e-4 : 5e-3;
}

Tensor normal(const bf::Shape& shape, std::uint64_t seed, DType dtype) {
    bf::Rng rng(seed);
    Tensor t = Tensor::empty(shape, {.dtype = dtype});
    bf::visit_real(dtype, "test", [&]<class T>() {
        for (T& v : t.span<T>()) v = static_cast<T>(rng.normal());
    });
    return t;
}

Tensor labels_below(std::int64_t n, std::int64_t k) {
    Tensor t = Tensor::empty({n}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < n; ++i) t.data<std::int64_t>()[i] = i * 7919 % k;
    return t;
}

/// Largest difference over the largest value; infinite where a value is not a number.
double difference(const Tensor& got, const Tensor& want) {
    const Tensor here = got.to(bf::cpu_device), there = want.to(bf::cpu_device);
    double most = 0, size = std::numeric_limits<double>::min();
    bf::visit_real(want.dtype(), "test", [&]<class T>() {
        for (std::int64_t i = 0; i < want.numel(); ++i) {
            const auto a = static_cast<double>(here.data<T>()[i]), b = static_cast<double>(there.data<T>()[i]);
            const double d = std::abs(a - b);
            most = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(most, d);
            size = std::max(size, std::abs(b));
        }
    });
    return most / size;
}

TEST(GemmCuda, AgreesWithCpuAndLeavesOldResultsUnread) {
    SKIP_WITHOUT_GPU();
#ifdef BF_EMULATED_DEVICE  // the kernels of the CPU, which have no tiles of the GPU's size
    const std::int64_t sizes[][3] = {{1, 1, 1}, {7, 3, 5}, {33, 129, 65}, {100, 27, 113}};
#else
    const std::int64_t sizes[][3] = {{1, 1, 1}, {7, 3, 5}, {33, 129, 65}, {256, 512, 1000}, {1000, 77, 513}};
#endif
    for (const DType dtype : {DType::f64, DType::f32})
        for (const auto& [m, n, k] : sizes)
            for (int trans = 0; trans < 4; ++trans)
                for (const double beta : {0.0, 1.0, 0.5}) {
                    SCOPED_TRACE(bf::concat(bf::name_of(dtype), " ", m, " ", n, " ", k, " ", trans, " beta ", beta));
                    const bool ta = trans & 1, tb = trans & 2;
                    const Tensor a = normal(ta ? bf::Shape{k, m} : bf::Shape{m, k}, 1, dtype),
                                 b = normal(tb ? bf::Shape{n, k} : bf::Shape{k, n}, 2, dtype),
                                 start = beta == 0 ? bf::full({m, n}, std::nan(""), dtype) : normal({m, n}, 3, dtype);
                    const Tensor want = start.clone(), got = start.to(gpu);
                    bf::kernels(bf::cpu_device).gemm(bf::context(bf::cpu_device), ta, tb, 1.5, a, b, beta, want);
                    bf::kernels(gpu).gemm(bf::context(gpu), ta, tb, 1.5, a.to(gpu), b.to(gpu), beta, got);
                    EXPECT_LT(difference(got, want), tolerance(dtype));
                }
}

struct Outcome {
    Tensor loss, classifier_loss, correct, dx, dw;
};

Outcome run(bf::Device device, const Tensor& e, const Tensor& memory, const Tensor& w, DType products) {
    const std::int64_t k = w.dim(0), q = memory.dim(0);
    const Var ve = Var::leaf(e.clone().to(device)), vw = Var::leaf(w.clone().to(device));
    const auto r = bf::margin_softmax(ve, vw, labels_below(e.dim(0), k).to(device),
                                      {.margin = bf::arcface(32),
                                       .memory = {memory.to(device), labels_below(q, k).to(device), q},
                                       .products = products});
    bf::backward(r.loss);
    return {r.loss.value(), r.classifier_loss, r.correct, ve.grad(), vw.grad()};
}

void expect_close(const Outcome& got, const Outcome& want, double limit) {
    EXPECT_LT(difference(got.loss, want.loss), limit);
    EXPECT_LT(difference(got.classifier_loss, want.classifier_loss), limit);
    EXPECT_LT(difference(got.dx, want.dx), limit);
    EXPECT_LT(difference(got.dw, want.dw), limit);
}

TEST(ClassifierCuda, AgreesWithCpuOverSeveralTiles) {
    SKIP_WITHOUT_GPU();
    // One tile and more of rows and of classes, numbers of classes and D that fill no 16 bytes.
#ifdef BF_EMULATED_DEVICE
    const std::int64_t sizes[][4] = {
        {37, 2100, 303, 40}, {5, 100, 3001, 24}, {3, 5, 11, 7}, {38, 1, 1700, 64}, {1, 1, 1, 1}};
#else
    const std::int64_t sizes[][4] = {
        {37, 8300, 1003, 40}, {5, 300, 33001, 24}, {3, 5, 11, 7}, {128, 1, 17000, 64}, {1, 1, 1, 1}};
#endif
    for (const auto& [b, q, k, d] : sizes)
        for (const DType dtype : {DType::f64, DType::f32}) {
            SCOPED_TRACE(bf::concat(bf::name_of(dtype), " B ", b, " Q ", q, " K ", k, " D ", d));
            const Tensor e = normal({b, d}, 1, dtype), memory = normal({q, d}, 2, dtype), w = normal({k, d}, 3, dtype);
            const Outcome want = run(bf::cpu_device, e, memory, w, DType::f32);
            const Outcome got = run(gpu, e, memory, w, DType::f32);
            expect_close(got, want, tolerance(dtype));
            EXPECT_EQ(got.correct.item(), want.correct.item());
            // operands keep 8 bits; sums stay in f32
            if (dtype == DType::f32) expect_close(run(gpu, e, memory, w, DType::bf16), want, 2e-2);
        }
}

// CurricularFace, sub-center ArcFace, and both.
TEST(ClassifierCuda, HeadsOfOtherClassesAgreeWithCpu) {
    SKIP_WITHOUT_GPU();
    const std::int64_t sizes[][4] = {
        {37, 300, 303, 40}, {3, 20, 6001, 24}, {3, 5, 11, 7}, {38, 1, 170, 64}, {1, 1, 1, 1}};
    const struct {
        std::int64_t centers;
        bool hard;
    } heads[] = {{1, true}, {3, false}, {2, true}};
    for (const auto& [b, q, k, d] : sizes)
        for (const auto& head : heads)
            for (const DType dtype : {DType::f64, DType::f32}) {
                SCOPED_TRACE(bf::concat(bf::name_of(dtype), " B ", b, " Q ", q, " K ", k, " D ", d, " centers ",
                                        head.centers, head.hard ? " hard" : ""));
                const Tensor e = normal({b, d}, 1, dtype), memory = normal({q, d}, 2, dtype),
                             w = normal({k * head.centers, d}, 3, dtype);
                const std::int64_t batch = b, classes = k;  // a binding cannot be captured
                Tensor rows, t;
                const auto outcome = [&](bf::Device device, DType products) {
                    const Var ve = Var::leaf(e.clone().to(device)), vw = Var::leaf(w.clone().to(device));
                    bf::MarginSoftmaxOptions options{
                        .margin = bf::arcface(16),
                        .memory = {memory.to(device), labels_below(memory.dim(0), w.dim(0)).to(device), memory.dim(0)},
                        .products = products,
                        .centers = head.centers};
                    if (head.hard) options.curricular_t = bf::full({}, 0.5, dtype, device);
                    const auto r = bf::margin_softmax(ve, vw, labels_below(batch, classes).to(device), options);
                    bf::backward(r.loss);
                    rows = r.target_rows.to(bf::cpu_device);
                    if (head.hard) t = options.curricular_t.to(bf::cpu_device);
                    return Outcome{r.loss.value(), r.classifier_loss, r.correct, ve.grad(), vw.grad()};
                };
                const Outcome want = outcome(bf::cpu_device, DType::f32);
                const Tensor want_rows = rows, want_t = t;
                const Outcome got = outcome(gpu, DType::f32);
                expect_close(got, want, tolerance(dtype));
                EXPECT_EQ(got.correct.item(), want.correct.item());
                EXPECT_EQ(std::memcmp(rows.raw(), want_rows.raw(), rows.bytes()), 0);
                if (head.hard) {
                    EXPECT_NEAR(t.item(), want_t.item(), 1e-6);
                }
                if (dtype == DType::f32 && d > 1) expect_close(outcome(gpu, DType::bf16), want, 5e-2);
            }
}

TEST(ClassifierCuda, GivesTheSameBitsFromRunToRun) {
    SKIP_WITHOUT_GPU();
#ifdef BF_EMULATED_DEVICE
    const std::int64_t rows = 300, classes = 2001;  // the kernels of the CPU, which are proven to repeat themselves
#else
    const std::int64_t rows = 3000, classes = 20001;
#endif
    const Tensor e = normal({256, 512}, 1, DType::f32), memory = normal({rows, 512}, 2, DType::f32),
                 w = normal({classes, 512}, 3, DType::f32);
    for (const DType products : {DType::f32, DType::bf16}) {
        const Outcome a = run(gpu, e, memory, w, products), b = run(gpu, e, memory, w, products);
        const auto same = [](const Tensor& x, const Tensor& y) {
            const Tensor p = x.to(bf::cpu_device), q = y.to(bf::cpu_device);
            return std::memcmp(p.host(), q.host(), p.bytes()) == 0;
        };
        EXPECT_TRUE(same(a.loss, b.loss) && same(a.classifier_loss, b.classifier_loss));
        EXPECT_TRUE(same(a.dx, b.dx));
        EXPECT_TRUE(same(a.dw, b.dw));
    }
}

TEST(ClassifierCuda, CompensatesAsTheCpuInPlace) {
    SKIP_WITHOUT_GPU();
    const std::int64_t n = 77, k = 19, d = 130;
    for (const DType dtype : {DType::f64, DType::f32})
        for (const bool direction_only : {false, true}) {
            const Tensor e = normal({n, d}, 1, dtype), then = normal({n, d}, 2, dtype), w = normal({k, d}, 3, dtype),
                         labels = labels_below(n, k), want = e.clone(), got = e.clone().to(gpu);
            bf::kernels(bf::cpu_device)
                .compensate(bf::context(bf::cpu_device), {direction_only}, want, then, labels, w, want);
            bf::kernels(gpu).compensate(bf::context(gpu), {direction_only}, got, then.to(gpu), labels.to(gpu),
                                        w.to(gpu), got);
            EXPECT_LT(difference(got, want), dtype == DType::f64 ? 1e-13 : 1e-5);
        }
}

}  // namespace

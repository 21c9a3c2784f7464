// Heads of the CPU's classifier that change the logits of other classes, CurricularFace and sub-center ArcFace and both
// at once, against loops over a materialised matrix, over several tiles, groups of rows and threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_simd.hpp"
#include "bf/nn/init.hpp"
#include "bf/ops/margin_softmax.hpp"

namespace {

namespace cpu = bf::cpu;
using bf::DType;
using bf::Tensor;
using bf::Var;

struct Head {
    std::int64_t centers;
    bool hard;
};
struct Sizes {
    std::int64_t k, d, b, q;
};

double value(const Tensor& t, std::int64_t i) {
    return t.dtype() == DType::f32 ? static_cast<double>(t.data<float>()[i]) : t.data<double>()[i];
}

/// Row losses and their gradients, in f64 by the formulae. `rounded`: cosines of operands in bf16.
class Naive {
  public:
    Naive(const Tensor& w, Head head, double scale, double m, double t, bool rounded)
        : w_(w), head_(head), scale_(scale), m_(m), t_(t), rounded_(rounded), dw(values(w.numel())) {}

    /// Adds `weight` times the gradients of rows x with labels y to dw, and gives the sum of losses.
    double add(const Tensor& x, const Tensor& y, double weight, std::vector<double>* dx) {
        const std::int64_t dim = x.dim(1), rows = w_.dim(0), classes = rows / head_.centers;
        double loss = 0;
        for (std::int64_t r = 0; r < x.dim(0); ++r) {
            const std::int64_t own = y.data<std::int64_t>()[r];
            std::vector<double> logit(size(classes)), slope(size(classes), 1);
            std::vector<std::int64_t> row(size(classes));
            for (std::int64_t k = 0; k < classes; ++k) {
                double best = -2;
                for (std::int64_t j = k * head_.centers; j < (k + 1) * head_.centers; ++j) {
                    const double c = std::min(1.0, std::max(-1.0, cosine(x, r, j, k == own)));
                    if (c > best) best = c, row[size(k)] = j;
                }
                logit[size(k)] = best;
            }
            const double target = logit[size(own)], theta = std::acos(target), above = std::cos(theta + m_);
            int hits = 1;
            for (std::int64_t k = 0; k < classes; ++k) {
                if (k == own) continue;
                double& c = logit[size(k)];
                if (c >= target) hits = 0;
                if (!head_.hard || c <= above) continue;
                slope[size(k)] = t_ + 2 * c;
                c *= t_ + c;
                ++hard_classes;
            }
            correct += hits;
            const bool guarded = theta + m_ > std::acos(-1.0);
            logit[size(own)] = guarded ? target - m_ * std::sin(m_) : above;
            slope[size(own)] = guarded ? 1 : std::sin(theta + m_) / std::sqrt(1 - target * target);
            double top = -std::numeric_limits<double>::infinity(), sum = 0;
            for (const double c : logit) top = std::max(top, scale_ * c);
            for (const double c : logit) sum += std::exp(scale_ * c - top);
            loss += top + std::log(sum) - scale_ * logit[size(own)];
            for (std::int64_t k = 0; k < classes; ++k) {
                const double p = std::exp(scale_ * logit[size(k)] - top) / sum,
                             g = (k == own ? p - 1 : p) * slope[size(k)] * scale_ * weight;
                const std::int64_t j = row[size(k)];
                const double nx = norm(x, r), nw = norm(w_, j);
                double dot = 0;
                for (std::int64_t d = 0; d < dim; ++d) dot += at(x, r, d) * at(w_, j, d);
                const double c = dot / nx / nw;
                for (std::int64_t d = 0; d < dim; ++d) {
                    const double ux = at(x, r, d) / nx, uw = at(w_, j, d) / nw;
                    dw[size(j * dim + d)] += g * (ux - uw * c) / nw;
                    if (dx) (*dx)[size(r * dim + d)] += g * (uw - ux * c) / nx;
                }
            }
        }
        return loss;
    }

  private:
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
    static std::vector<double> values(std::int64_t n) { return std::vector<double>(size(n)); }
    static double at(const Tensor& t, std::int64_t r, std::int64_t d) { return value(t, r * t.dim(1) + d); }
    static double norm(const Tensor& t, std::int64_t r) {
        double sum = 0;
        for (std::int64_t d = 0; d < t.dim(1); ++d) sum += at(t, r, d) * at(t, r, d);
        return std::sqrt(sum);
    }
    double cosine(const Tensor& x, std::int64_t r, std::int64_t j, bool own) const {
        double sum = 0;
        const double nx = norm(x, r);
        for (std::int64_t d = 0; d < x.dim(1); ++d) {
            const double a = at(x, r, d), b = at(w_, j, d);
            sum += rounded_ && !own ? round(a / nx) * round(b) : a / nx * b;
        }
        return sum / norm(w_, j);
    }
    static double round(double v) { return static_cast<double>(static_cast<float>(bf::bf16(static_cast<float>(v)))); }

    Tensor w_;
    Head head_;
    double scale_, m_, t_;
    bool rounded_;

  public:
    std::vector<double> dw;
    std::int64_t correct = 0, hard_classes = 0;
};

void expect_near(const Tensor& got, const std::vector<double>& want, double near, const char* what) {
    double top = 0;
    for (const double v : want) top = std::max(top, std::abs(v));
    for (std::int64_t i = 0; i < got.numel(); ++i)
        ASSERT_NEAR(value(got, i), want[static_cast<std::size_t>(i)], near * std::max(top, 1e-3))
            << what << " element " << i;
}

Tensor numbers_below(std::int64_t n, std::int64_t end) {
    Tensor y = Tensor::empty({n}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i * 31 % end;
    return y;
}

/// Inputs of a call: some rows of the batch lie near a row of their class.
struct Case {
    Tensor w, x, memory, y, memory_rows, memory_y;

    Case(const Sizes& n, std::int64_t centers, DType dtype) {
        bf::Init init(21, dtype);
        w = init.normal({n.k * centers, n.d}, 0.1);
        x = init.normal({n.b, n.d}, 1);
        memory = init.normal({n.q, n.d}, 1);
        y = numbers_below(n.b, n.k);
        memory_rows = numbers_below(n.q, n.k * centers);
        memory_y = Tensor::empty({n.q}, {.dtype = DType::i64});
        for (std::int64_t i = 0; i < n.q; ++i)
            memory_y.data<std::int64_t>()[i] = memory_rows.data<std::int64_t>()[i] / centers;
        bf::visit_real(dtype, "test", [&]<class T>() {
            for (std::int64_t r = 0; r < n.b; r += 3)
                for (std::int64_t d = 0; d < n.d; ++d)
                    x.data<T>()[r * n.d + d] += 5 * w.data<T>()[y.data<std::int64_t>()[r] * centers * n.d + d];
        });
    }
};

struct Outcome {
    bf::MarginSoftmaxResult result;
    Tensor dx, dw;
};

Outcome run(const Case& c, Head head, DType products, std::int64_t kept) {
    const Var e = Var::leaf(c.x), w = Var::leaf(c.w);
    bf::MarginSoftmaxOptions o{
        .margin = bf::arcface(16), .products = products, .kept_bytes = kept, .centers = head.centers};
    if (c.memory.dim(0) > 0) o.memory = {c.memory, c.memory_rows, c.memory.dim(0)};
    if (head.hard) o.curricular_t = bf::full({}, 0.5, c.w.dtype());
    Outcome out{bf::margin_softmax(e, w, c.y, o), {}, {}};
    bf::backward(out.result.loss);
    out.dx = e.grad();
    out.dw = w.grad();
    return out;
}

const Head heads[] = {{1, true}, {2, false}, {3, false}, {3, true}, {5, true}, {1, false}};
const struct Kind {
    DType dtype, products;
} kinds[] = {{DType::f64, DType::f32}, {DType::f32, DType::f32}, {DType::f32, DType::bf16}};

TEST(ClassifierHeads, EqualTheMaterialisedFormulae) {
    const Sizes sizes[] = {{207, 19, 40, 75}, {50, 35, 33, 0}, {1, 3, 1, 1},
                           {2, 2, 1, 0},      {43, 7, 65, 31}, {1, 5, 34, 3}};
    for (const Kind& kind : kinds)
        for (const Head& head : heads)
            for (const Sizes& n : sizes) {
                SCOPED_TRACE(bf::concat(bf::name_of(kind.dtype), " products ", bf::name_of(kind.products), " centers ",
                                        head.centers, head.hard ? " hard" : "", " K ", n.k, " D ", n.d, " B ", n.b,
                                        " Q ", n.q));
                const Case c(n, head.centers, kind.dtype);
                const Outcome got = run(c, head, kind.products, 0);
                double t = 0.5;
                if (head.hard) {  // of the target cosines, which the op itself tells in another way
                    double sum = 0;
                    for (std::int64_t r = 0; r < n.b; ++r) {
                        double xx = 0, best = -2;
                        for (std::int64_t d = 0; d < n.d; ++d) xx += value(c.x, r * n.d + d) * value(c.x, r * n.d + d);
                        for (std::int64_t j = 0; j < head.centers; ++j) {
                            const std::int64_t row = c.y.data<std::int64_t>()[r] * head.centers + j;
                            double xw = 0, ww = 0;
                            for (std::int64_t d = 0; d < n.d; ++d) {
                                xw += value(c.x, r * n.d + d) * value(c.w, row * n.d + d);
                                ww += value(c.w, row * n.d + d) * value(c.w, row * n.d + d);
                            }
                            best = std::max(best, xw / std::sqrt(xx * ww));
                        }
                        sum += best;
                    }
                    t = 0.01 * sum / static_cast<double>(n.b) + 0.99 * t;
                }
                const bool rounded = kind.products == DType::bf16 && cpu::multiplies_pairs;
                if (rounded && n.d < 3) continue;  // what is left of a gradient along D - 1 is lost in its rounding
                Naive naive(c.w, head, 16, 0.5, t, rounded), batch(c.w, head, 16, 0.5, t, rounded);
                const double all = static_cast<double>(n.b + n.q), rows = static_cast<double>(n.b);
                std::vector<double> dx(static_cast<std::size_t>(c.x.numel()));
                const double batch_loss = batch.add(c.x, c.y, 1 / rows, &dx);
                const double loss = naive.add(c.x, c.y, 1 / all, nullptr) +
                                    (n.q ? naive.add(c.memory, c.memory_y, 1 / all, nullptr) : 0);
                if (head.hard && n.k > 40) {
                    EXPECT_GT(naive.hard_classes, 10);
                }
                const double near = kind.dtype == DType::f64 ? 1e-10 : rounded ? 1e-2 : 5e-5;
                EXPECT_NEAR(got.result.loss.value().item(), batch_loss / rows, rounded ? 1e-4 : near);
                EXPECT_NEAR(got.result.classifier_loss.item(), loss / all, rounded ? 1e-4 : near);
                EXPECT_EQ(got.result.correct.item(), static_cast<double>(batch.correct));
                expect_near(got.dx, dx, near, "dx");
                expect_near(got.dw, naive.dw, near, "dw");
            }
}

TEST(ClassifierHeads, TheSameBitsWhateverIsKeptAndOnAnyThreads) {
    const int threads = bf::cpu_pool().threads();
    for (const Kind& kind : kinds)
        for (const Head& head : {Head{1, true}, Head{3, true}}) {
            // more than one group of rows
            const Case c({301, 17, 45, kind.products == DType::bf16 ? 4200 : 2100}, head.centers, kind.dtype);
            bf::cpu_pool().resize(1);
            const Outcome want = run(c, head, kind.products, 0);
            for (const int n : {1, 2, 5})
                for (const std::int64_t kept : {std::int64_t{1} << 20, std::int64_t{1} << 30}) {
                    bf::cpu_pool().resize(n);
                    const Outcome got = run(c, head, kind.products, kept);
                    const auto same = [](const Tensor& a, const Tensor& b) {
                        return std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
                    };
                    EXPECT_TRUE(same(got.dx, want.dx) && same(got.dw, want.dw) &&
                                same(got.result.classifier_loss, want.result.classifier_loss))
                        << "centers " << head.centers << ", products " << bf::name_of(kind.products) << ", threads "
                        << n << ", kept " << kept;
                }
        }
    bf::cpu_pool().resize(threads);
}

TEST(ClassifierHeads, MoreCentersThanATileOfClasses) {
    const Head head{150, false};
    const Case c({7, 5, 6, 40}, head.centers, DType::f64);
    const Outcome got = run(c, head, DType::f32, 0);
    Naive naive(c.w, head, 16, 0.5, 0, false);
    naive.add(c.x, c.y, 1.0 / 46, nullptr);
    naive.add(c.memory, c.memory_y, 1.0 / 46, nullptr);
    expect_near(got.dw, naive.dw, 1e-10, "dw");
}

TEST(ClassifierHeads, NotANumberInOneCenterReachesTheLoss) {
    for (const Head& head : heads) {
        const Case c({50, 8, 33, 0}, head.centers, DType::f32);  // the second row has the label 31
        c.w.data<float>()[(31 * head.centers + head.centers - 1) * 8] = std::nanf("");
        const Outcome got = run(c, head, DType::f32, 0);
        EXPECT_TRUE(std::isnan(got.result.loss.value().item()));
    }
}

TEST(ClassifierHeads, MemoryIsBounded) {
    for (const Head& head : {Head{1, true}, Head{3, true}}) {
        const Case c({1000, 16, 64, 16000}, head.centers, DType::f32);
        bf::cpu_allocator().reset_peak();
        const auto before = bf::cpu_allocator().stats().in_use;
        const Outcome got = run(c, head, DType::f32, 0);
        EXPECT_LT(bf::cpu_allocator().stats().peak - before, std::size_t{12} << 20);  // of 61 MiB of logits a center
    }
}

}  // namespace

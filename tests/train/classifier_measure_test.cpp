#include "bf/train/classifier_measure.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "bf/nn/init.hpp"

namespace {

using bf::ClassifierMeasure;
using bf::DType;
using bf::Margin;
using bf::Tensor;

/// Two people at (cos a, +-sin a): the best rows are (0, +-1), where each row's logits differ by 2 s sin a - s m.
struct TwoPeople {
    double a = 0.5, scale = 4, m = 0.3;
    Tensor e = Tensor::from<double>({2 * std::cos(a), 2 * std::sin(a), std::cos(a), -std::sin(a)}, {2, 2});
    Tensor labels = Tensor::from<std::int64_t>({0, 1}, {2});
    double best() const { return std::log1p(std::exp(-scale * (2 * std::sin(a) - m))); }
    ClassifierMeasure measure(const std::vector<double>& w) const {
        return bf::measure_classifier(e, labels, Tensor::from<double>(w, {2, 2}),
                                      {.margin = bf::cosface(scale, m), .rows_per_pass = 1});
    }
};

TEST(MeasureClassifier, NothingIsLeftToGainAtTheOptimum) {
    const TwoPeople two;
    const ClassifierMeasure m = two.measure({0, 3, 0, -0.5});
    EXPECT_EQ(m.images, 2);
    EXPECT_NEAR(m.loss, two.best(), 1e-12);
    EXPECT_NEAR(m.loss_no_margin, std::log1p(std::exp(-two.scale * 2 * std::sin(two.a))), 1e-12);
    EXPECT_EQ(m.accuracy, 1);
    EXPECT_LT(m.gradient_norm, 1e-12);
    EXPECT_LT(m.turning_norm, 1e-12);
    EXPECT_GE(m.excess_loss, 0);
    EXPECT_LT(m.excess_loss, 1e-12);
}

TEST(MeasureClassifier, FindsTheOptimumOfTwoPeople) {
    const TwoPeople two;
    for (const double tilt : {0.2, -0.3, 1.0}) {  // below 0 each row is nearer to the other person
        const double norm = std::sqrt(1 + tilt * tilt);
        const ClassifierMeasure m = two.measure({1, tilt, 2, -2 * tilt});
        EXPECT_NEAR(m.loss, std::log1p(std::exp(-two.scale * (2 * std::sin(two.a) * tilt / norm - two.m))), 1e-12);
        EXPECT_EQ(m.accuracy, tilt > 0 ? 1 : 0);
        EXPECT_NEAR(m.least_loss, two.best(), 1e-4) << tilt;
        EXPECT_NEAR(m.excess_loss, m.loss - two.best(), 1e-4) << tilt;
        EXPECT_LT(m.turning_norm_at_least, 0.01) << tilt;
        EXPECT_GT(m.turning_norm, 0.1) << tilt;
    }
}

/// Embeddings around the directions of k people.
struct Crowd {
    Crowd(std::int64_t n, std::int64_t k, std::int64_t d, DType dtype = DType::f64)
        : labels(Tensor::empty({n}, {.dtype = DType::i64})) {
        bf::Init init(31, dtype);
        const Tensor centres = init.normal({k, d}, 1);
        e = init.normal({n, d}, 0.7);
        w = init.normal({k, d}, 0.3);
        bf::visit_real(dtype, "crowd", [&]<class T>() {
            for (std::int64_t i = 0; i < n * d; ++i) e.data<T>()[i] += centres.data<T>()[i / d % k * d + i % d];
        });
        for (std::int64_t i = 0; i < n; ++i) labels.data<std::int64_t>()[i] = i % k;
    }
    Tensor e, labels, w;
};

TEST(MeasureClassifier, EqualsTheFormulaeWrittenDown) {
    constexpr std::int64_t n = 30, k = 5, d = 4;
    const Crowd crowd(n, k, d);
    const double scale = 6, margin = 0.25;
    const auto cosine = [&](const double* x, const double* y) {
        double xx = 0, yy = 0, xy = 0;
        for (int c = 0; c < d; ++c) xx += x[c] * x[c], yy += y[c] * y[c], xy += x[c] * y[c];
        return xy / std::sqrt(xx * yy);
    };
    const double *e = crowd.e.data<double>(), *w = crowd.w.data<double>();
    double loss = 0, plain = 0, correct = 0;
    std::vector<double> unit_gradient(k * d, 0);  // by the rows of W at length 1, in all directions
    for (std::int64_t i = 0; i < n; ++i) {
        double logits[k], sum = 0, plain_sum = 0, norm = 0;
        const std::int64_t y = i % k;
        bool right = true;
        for (std::int64_t j = 0; j < k; ++j) {
            const double c = cosine(e + i * d, w + j * d);
            logits[j] = scale * (c - (j == y ? margin : 0));
            sum += std::exp(logits[j]);
            plain_sum += std::exp(scale * c);
            right = right && (j == y || c < cosine(e + i * d, w + y * d));
        }
        correct += right;
        loss += (std::log(sum) - logits[y]) / n;
        plain += (std::log(plain_sum) - logits[y] - scale * margin) / n;
        for (int c = 0; c < d; ++c) norm += e[i * d + c] * e[i * d + c];
        for (std::int64_t j = 0; j < k; ++j)
            for (int c = 0; c < d; ++c)
                unit_gradient[static_cast<std::size_t>(j * d + c)] +=
                    scale / n * (std::exp(logits[j]) / sum - (j == y)) * e[i * d + c] / std::sqrt(norm);
    }
    double turning = 0, across = 0;
    for (std::int64_t j = 0; j < k; ++j) {
        double gw = 0, ww = 0, gg = 0;
        for (int c = 0; c < d; ++c) {
            const double g = unit_gradient[static_cast<std::size_t>(j * d + c)], x = w[j * d + c];
            gw += g * x, ww += x * x, gg += g * g;
        }
        turning += gg - gw * gw / ww;
        across += (gg - gw * gw / ww) / ww;
    }
    for (const std::int64_t rows : {7, 100}) {
        const ClassifierMeasure m = bf::measure_classifier(
            crowd.e, crowd.labels, crowd.w, {.margin = bf::cosface(scale, margin), .steps = 0, .rows_per_pass = rows});
        EXPECT_NEAR(m.loss, loss, 1e-12);
        EXPECT_NEAR(m.loss_no_margin, plain, 1e-12);
        EXPECT_NEAR(m.accuracy, correct / n, 1e-12);
        EXPECT_NEAR(m.turning_norm, std::sqrt(turning), 1e-12);
        EXPECT_NEAR(m.across_norm, std::sqrt(across), 1e-12);
        EXPECT_NEAR(m.gradient_norm, m.across_norm, 1e-12);  // the loss does not see the length of a row
        EXPECT_EQ(m.excess_loss, 0);                         // no step was made
    }
}

TEST(MeasureClassifier, AHundredStepsComeNearWhatManyFind) {
    for (const Margin margin : {bf::arcface(16, 0.3), bf::cosface(64, 0.35), bf::arcface(64, 0.5)}) {
        const Crowd crowd(240, 12, 16, DType::f32);
        const auto measure = [&](std::int64_t steps) {
            return bf::measure_classifier(crowd.e, crowd.labels, crowd.w, {.margin = margin, .steps = steps});
        };
        const ClassifierMeasure usual = measure(100), many = measure(3000);
        EXPECT_GT(usual.excess_loss, 0.5);
        EXPECT_NEAR(usual.excess_loss, many.excess_loss, 0.01 * many.excess_loss) << margin.scale;
        EXPECT_LT(usual.turning_norm_at_least, 0.05 * usual.turning_norm) << margin.scale;
    }
}

TEST(MeasureClassifier, LeavesItsInputsAndSaysWhatDoesNotFit) {
    const Crowd crowd(12, 3, 4);
    const Tensor before = crowd.w.clone();
    int steps = 0;
    bf::measure_classifier(crowd.e, crowd.labels, crowd.w, {.steps = 5}, [&](std::int64_t) { ++steps; });
    EXPECT_EQ(steps, 5);
    EXPECT_EQ(std::memcmp(before.raw(), crowd.w.raw(), before.bytes()), 0);
    EXPECT_THROW(bf::measure_classifier(crowd.e, crowd.labels, crowd.w, {.rows_per_pass = 0}), bf::Error);
    EXPECT_THROW(bf::measure_classifier(crowd.e.rows(0, 0), crowd.labels.rows(0, 0), crowd.w), bf::Error);
    EXPECT_THROW(bf::measure_classifier(crowd.e, crowd.labels, Tensor::zeros({3, 5}, crowd.w.options())), bf::Error);
}

}  // namespace

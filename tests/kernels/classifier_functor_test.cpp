// The functors of the GPU's tiled classifier in plain loops, tile by tile as cuda/classifier.cu runs them, against the
// CPU's margin softmax.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/math/classifier_rows.hpp"
#include "bf/math/hard_classes.hpp"
#include "bf/ops/margin_softmax.hpp"

namespace {

using bf::Tensor;
using bf::Var;
using bf::math::OnlineSum;
using Values = std::vector<double>;

constexpr double none = -std::numeric_limits<double>::infinity();

/// Rows [n, dim] with the labels, and what the passes add to them.
struct Rows {
    std::size_t n, dim;
    Values x, inverse_norm, unit;
    std::vector<std::int64_t> labels;
    std::vector<OnlineSum<double>> statistics;
    std::vector<bf::math::GradientRow<double>> gradient;

    explicit Rows(const Tensor& t, const Tensor& y = {})
        : n(static_cast<std::size_t>(t.dim(0))),
          dim(static_cast<std::size_t>(t.dim(1))),
          x(t.data<double>(), t.data<double>() + t.numel()),
          inverse_norm(n),
          unit(x),
          statistics(n),
          gradient(n) {
        if (y.defined()) labels.assign(y.data<std::int64_t>(), y.data<std::int64_t>() + y.numel());
        for (std::size_t r = 0; r < n; ++r) {
            double sum = 0;
            for (std::size_t d = 0; d < dim; ++d) sum += x[r * dim + d] * x[r * dim + d];
            inverse_norm[r] = 1 / std::max(1e-12, std::sqrt(sum));
            for (std::size_t d = 0; d < dim; ++d) unit[r * dim + d] *= inverse_norm[r];
        }
    }
};

double cosine(const Rows& a, std::size_t i, const Rows& b, std::size_t k) {
    double sum = 0;
    for (std::size_t d = 0; d < a.dim; ++d) sum += a.unit[i * a.dim + d] * b.unit[k * b.dim + d];
    return sum;
}

struct Tile {
    std::size_t rows, classes;
    int lanes;  ///< threads of a block that share a row
};

/// Statistics of a row's tile: lanes take packs of two in turn, and their sums are joined as a block does.
void statistics(Rows& x, const Rows& w, double scale, const Tile& tile) {
    for (std::size_t k0 = 0; k0 < w.n; k0 += tile.classes)
        for (std::size_t r = 0; r < x.n; ++r) {
            const std::size_t k1 = std::min(w.n, k0 + tile.classes);
            std::vector<OnlineSum<double>> lane(static_cast<std::size_t>(tile.lanes));
            for (std::size_t k = k0, at = 0; k < k1; k += 2, ++at) {
                double logits[2];
                for (std::size_t i = 0; i < 2; ++i)
                    logits[i] = k + i < k1 && static_cast<std::int64_t>(k + i) != x.labels[r]
                                    ? bf::math::tile_logit(cosine(x, r, w, k + i), scale)
                                    : none;
                lane[at % lane.size()].add(logits);
            }
            for (std::size_t step = lane.size() / 2; step > 0; step /= 2)
                for (std::size_t i = 0; i < step; ++i) lane[i].join(lane[i + step]);
            x.statistics[r].join(lane[0]);
        }
}

/// Loss of the rows; completes them.
double finish(Rows& x, const Rows& w, const bf::Margin& margin) {
    double loss = 0;
    for (std::size_t r = 0; r < x.n; ++r) {
        const auto row = bf::math::margin_row(margin, margin.scale, x.statistics[r].largest, x.statistics[r].sum,
                                              cosine(x, r, w, static_cast<std::size_t>(x.labels[r])));
        x.gradient[r] = {row.log_sum_exp, row.target_logit, row.slope, x.labels[r]};
        loss += row.loss();
    }
    return loss;
}

/// For each tile: its gradient, then what it adds to row sums [x.n, dim] and class sums [w.n, dim].
void sums(const Rows& x, const Rows& w, double scale, const Tile& tile, Values& row_sums, Values& class_sums) {
    for (std::size_t k0 = 0; k0 < w.n; k0 += tile.classes)
        for (std::size_t r0 = 0; r0 < x.n; r0 += tile.rows)
            for (std::size_t r = r0; r < std::min(x.n, r0 + tile.rows); ++r)
                for (std::size_t k = k0; k < std::min(w.n, k0 + tile.classes); ++k) {
                    const auto& row = x.gradient[r];
                    const double g =
                        row.label == static_cast<long long>(k) ? row.own() : row.other(cosine(x, r, w, k), scale);
                    for (std::size_t d = 0; d < x.dim; ++d) {
                        row_sums[r * x.dim + d] += g * w.unit[k * x.dim + d];
                        class_sums[k * x.dim + d] += g * x.unit[r * x.dim + d];
                    }
                }
}

Values project(const Rows& rows, const Values& g, double factor) {
    Values out(g.size());
    for (std::size_t r = 0; r < rows.n; ++r) {
        double dot = 0;
        for (std::size_t d = 0; d < rows.dim; ++d) dot += g[r * rows.dim + d] * rows.x[r * rows.dim + d];
        bf::math::UnitGradient<double> gradient{rows.inverse_norm[r], factor, 0};
        gradient.finish(dot);
        for (std::size_t d = 0; d < rows.dim; ++d)
            out[r * rows.dim + d] = gradient(g[r * rows.dim + d], rows.x[r * rows.dim + d]);
    }
    return out;
}

void expect_close(const Values& got, const Tensor& want) {
    double size = 0;
    for (double v : want.span<double>()) size = std::max(size, std::abs(v));
    for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want.data<double>()[i], 1e-12 * std::max(1.0, size)) << "element " << i;
}

Tensor normal(const bf::Shape& shape, std::uint64_t seed) {
    bf::Rng rng(seed);
    Tensor t = Tensor::empty(shape, {.dtype = bf::DType::f64});
    for (double& v : t.span<double>()) v = static_cast<double>(rng.normal());
    return t;
}

Tensor labels_below(std::int64_t n, std::int64_t k) {
    Tensor t = Tensor::empty({n}, {.dtype = bf::DType::i64});
    for (std::int64_t i = 0; i < n; ++i) t.data<std::int64_t>()[i] = i * 7 % k;
    return t;
}

TEST(ClassifierFunctors, TilesGiveTheLossAndGradientsOfTheCpu) {
    const std::int64_t b = 13, q = 29, k = 71, d = 7;
    const double batch_rows = static_cast<double>(b), all_rows = static_cast<double>(b + q);
    const Tensor e = normal({b, d}, 1), memory = normal({q, d}, 2), weight = normal({k, d}, 3);
    // Near its own class (cosine 0.99), but not parallel: there acos turns the last bit of a cosine into 1e-8.
    for (std::int64_t i = 0; i < d; ++i) e.data<double>()[i] = weight.data<double>()[i] + 0.1 * e.data<double>()[i];
    const Tensor y = labels_below(b, k), yq = labels_below(q, k);
    for (const bf::Margin& margin : {bf::arcface(16), bf::cosface(64), bf::combined_margin(32, 1.1, 0.3, 0.1)}) {
        const Var ve = Var::leaf(e.clone()), vw = Var::leaf(weight.clone());
        const auto want = bf::margin_softmax(ve, vw, y, {.margin = margin, .memory = {memory, yq, q}});
        bf::backward(want.loss);
        for (const Tile& tile : {Tile{13, 71, 4}, Tile{5, 16, 8}, Tile{4, 3, 2}, Tile{1, 1, 1}, Tile{64, 512, 32}}) {
            SCOPED_TRACE(bf::concat("tile ", tile.rows, " x ", tile.classes));
            Rows w(weight), batch(e, y), queue(memory, yq);
            statistics(batch, w, margin.scale, tile);
            statistics(queue, w, margin.scale, tile);
            const double batch_loss = finish(batch, w, margin), queue_loss = finish(queue, w, margin);
            EXPECT_NEAR(batch_loss / batch_rows, want.loss.value().item(), 1e-12 * batch_loss);
            EXPECT_NEAR((batch_loss + queue_loss) / all_rows, want.classifier_loss.item(), 1e-12 * batch_loss);
            Values class_sums(weight.span<double>().size()), batch_sums(batch.x.size()), queue_sums(queue.x.size());
            sums(batch, w, margin.scale, tile, batch_sums, class_sums);
            sums(queue, w, margin.scale, tile, queue_sums, class_sums);
            expect_close(project(batch, batch_sums, margin.scale / batch_rows), ve.grad());
            expect_close(project(w, class_sums, margin.scale / all_rows), vw.grad());
        }
    }
}

TEST(ClassifierFunctors, OnlineSumJoinsInAnyCut) {
    bf::Rng rng(5);
    Values values(101);
    for (double& v : values) v = 64 * static_cast<double>(rng.normal());
    const double top = *std::max_element(values.begin(), values.end());
    double want = 0;
    for (double v : values) want += std::exp(v - top);
    for (std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{50}, std::size_t{101}}) {
        OnlineSum<double> a, b;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double one[3] = {none, values[i], none};
            (i < cut ? a : b).add(one);
        }
        a.join(b);
        EXPECT_EQ(a.largest, top);
        EXPECT_NEAR(a.sum, want, 1e-13 * want);
    }
}

TEST(ClassifierFunctors, HardClassesAreDerivedAndBeginAboveTheMovedTarget) {
    const double scale = 16, m = 0.5;
    for (const double theta : {0.01, 0.7, 1.5, 2.9}) {
        const bf::math::HardClasses<double> row{bf::math::hard_above(std::cos(theta), m), 0.3};
        EXPECT_NEAR(row.above, std::cos(theta + m), 1e-14);
        for (const double cosine : {row.above - 0.01, row.above + 0.01, -1.0, 1.0}) {
            const double z = scale * cosine, h = 1e-5;
            EXPECT_NEAR(row.logit(z, scale), scale * cosine * (cosine > row.above ? 0.3 + cosine : 1), 1e-13);
            EXPECT_NEAR(row.slope(z, scale), (row.logit(z + h, scale) - row.logit(z - h, scale)) / (2 * h), 1e-9);
        }
        EXPECT_EQ(row.logit(none, scale), none);
        EXPECT_TRUE(std::isnan(row.logit(std::nan(""), scale)));
    }
    EXPECT_NEAR(bf::math::hard_above(1.25, m), std::cos(m), 1e-15);
}

TEST(ClassifierFunctors, NothingStaysNothingAndNotANumberShows) {
    OnlineSum<double> s;
    s.add({none, none});
    s.join({});
    EXPECT_EQ(s.largest, none);
    EXPECT_EQ(s.sum, 0);
    s.add({1.0, std::nan("")});
    EXPECT_TRUE(std::isnan(s.sum));
    OnlineSum<double> t;
    t.add({2.0, 3.0});
    t.join(s);
    EXPECT_TRUE(std::isnan(t.sum));
    EXPECT_TRUE(std::isnan(bf::math::tile_logit(std::nan(""), 64.0)));
    EXPECT_EQ(bf::math::tile_logit(1.5f, 64.0f), 64.0f);
}

}  // namespace

#include "bf/eval/search.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <numeric>

#include "bf/base/random.hpp"
#include "bf/eval/calibrate.hpp"

namespace {

using bf::Tensor;

Tensor random_rows(std::int64_t n, std::int64_t dim, std::uint64_t seed) {
    Tensor t = Tensor::empty({n, dim});
    bf::Rng rng(seed, bf::Stream::test, 0);
    for (float& v : t.span<float>()) v = rng.uniform(-1, 1);
    return t;
}

/// All scores in double, sorted; the plain loop that top_k() must agree with.
struct Plain {
    std::vector<double> scores;
    std::vector<std::int64_t> order;
};
Plain plain_search(const Tensor& queries, std::int64_t q, const Tensor& gallery, bool cosine, std::int64_t self) {
    const std::int64_t n = gallery.dim(0), dim = gallery.dim(1);
    const auto dot = [dim](const float* a, const float* b) {
        double sum = 0;
        for (std::int64_t d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
        return sum;
    };
    Plain p;
    const float *x = queries.data<float>() + q * dim, *g = gallery.data<float>();
    for (std::int64_t i = 0; i < n; ++i) {
        const double scale =
            cosine ? std::max(1e-12, std::sqrt(dot(x, x))) * std::max(1e-12, std::sqrt(dot(g + i * dim, g + i * dim)))
                   : 1;
        p.scores.push_back(dot(x, g + i * dim) / scale);
        if (i != self) p.order.push_back(i);
    }
    std::stable_sort(p.order.begin(), p.order.end(), [&](std::int64_t a, std::int64_t b) {
        return p.scores[static_cast<std::size_t>(a)] > p.scores[static_cast<std::size_t>(b)];
    });
    return p;
}

TEST(Search, AgreesWithAPlainLoop) {
    // sides below, at and above tiles, tasks, blocks and the number of queries where the gallery is cut too
    for (const auto& [q, n, dim, k] : {std::tuple{1, 1, 1, 1}, std::tuple{5, 700, 3, 10}, std::tuple{13, 33, 40, 33},
                                       std::tuple{97, 65, 17, 4}, std::tuple{600, 31, 5, 3}}) {
        const Tensor queries = random_rows(q, dim, 1), gallery = random_rows(n, dim, 2);
        for (const bool cosine : {true, false}) {
            const bf::TopK top = bf::top_k(queries, gallery, k, {.score = {.cosine = cosine}});
            ASSERT_EQ(top.scores.shape(), (bf::Shape{q, k}));
            for (std::int64_t i = 0; i < q; ++i) {
                const Plain p = plain_search(queries, i, gallery, cosine, -1);
                for (std::int64_t r = 0; r < k; ++r) {
                    const auto found = static_cast<std::size_t>(top.indices.data<std::int64_t>()[i * k + r]);
                    const double score = static_cast<double>(top.scores.data<float>()[i * k + r]);
                    ASSERT_LT(found, static_cast<std::size_t>(n));
                    ASSERT_NEAR(score, p.scores[found], 1e-5);
                    // scores of this precision may swap neighbours, but not change the k-th best score
                    ASSERT_NEAR(score, p.scores[static_cast<std::size_t>(p.order[static_cast<std::size_t>(r)])], 1e-5);
                }
            }
        }
    }
}

TEST(Search, AGalleryOfSeveralBlocks) {
    // so long rows that 256 of them fill a block; all but three columns are zero
    const std::int64_t dim = 16384, n = 600, q = 3, k = 9;
    const Tensor thin = random_rows(n + q, 3, 10), wide = bf::full({n + q, dim}, 0);
    for (std::int64_t i = 0; i < n + q; ++i)
        std::copy_n(thin.data<float>() + 3 * i, 3, wide.data<float>() + dim * i + 99);
    const bf::TopK expected = bf::top_k(thin.rows(n, n + q), thin.rows(0, n), k),
                   top = bf::top_k(wide.rows(n, n + q), wide.rows(0, n), k);
    EXPECT_EQ(std::memcmp(top.scores.raw(), expected.scores.raw(), top.scores.bytes()), 0);
    EXPECT_EQ(std::memcmp(top.indices.raw(), expected.indices.raw(), top.indices.bytes()), 0);
}

TEST(Search, DuplicatesTieExactlyAndTheLowerIndexComesFirst) {
    // one vector at many places among others: wherever it lies in a tile, its score has the same bits
    const std::int64_t n = 3000, dim = 37, q = 20;
    const Tensor gallery = random_rows(n, dim, 3), queries = random_rows(q, dim, 4);
    std::vector<std::int64_t> places;
    for (std::int64_t i = 5; i < n; i += 31 + i % 7) places.push_back(i);
    for (const std::int64_t i : places) std::copy_n(gallery.data<float>(), dim, gallery.data<float>() + i * dim);
    for (std::int64_t i = 0; i < q; ++i)
        for (std::int64_t d = 0; d < dim; ++d)
            queries.data<float>()[i * dim + d] = gallery.data<float>()[d] + 0.01f * queries.data<float>()[i * dim + d];
    for (const std::int64_t k : {std::int64_t{4}, static_cast<std::int64_t>(places.size()) + 1}) {
        const bf::TopK top = bf::top_k(queries, gallery, k);
        for (std::int64_t i = 0; i < q; ++i) {
            EXPECT_EQ(top.indices.data<std::int64_t>()[i * k], 0);
            for (std::int64_t r = 1; r < k; ++r) {
                ASSERT_EQ(top.indices.data<std::int64_t>()[i * k + r], places[static_cast<std::size_t>(r - 1)]);
                ASSERT_EQ(top.scores.data<float>()[i * k + r], top.scores.data<float>()[i * k]);
            }
        }
    }
    // the query's own row is left out, its duplicates are not
    std::vector<std::int64_t> self(static_cast<std::size_t>(n));
    std::iota(self.begin(), self.end(), 0);
    const bf::TopK top = bf::top_k(gallery, gallery, 2, {.exclude_self = self});
    for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_NE(top.indices.data<std::int64_t>()[2 * i], i);
        ASSERT_NE(top.indices.data<std::int64_t>()[2 * i + 1], i);
    }
    EXPECT_EQ(top.indices.data<std::int64_t>()[0], places[0]);
    EXPECT_EQ(top.indices.data<std::int64_t>()[1], places[1]);
    EXPECT_EQ(top.indices.data<std::int64_t>()[2 * places[1]], 0);
    EXPECT_EQ(top.indices.data<std::int64_t>()[2 * places[1] + 1], places[0]);
}

TEST(Search, TheSameBitsForAnyNumberOfThreads) {
    const Tensor gallery = random_rows(2000, 24, 5), few = random_rows(30, 24, 6), many = random_rows(700, 24, 7);
    const int before = bf::cpu_pool().threads();
    std::vector<bf::TopK> all;
    for (const int threads : {1, 2, 5}) {
        bf::cpu_pool().resize(threads);
        all.push_back(bf::top_k(few, gallery, 7));
        all.push_back(bf::top_k(many, gallery, 7));
    }
    bf::cpu_pool().resize(before);
    for (std::size_t i = 2; i < all.size(); ++i) {
        EXPECT_EQ(std::memcmp(all[i].scores.raw(), all[i % 2].scores.raw(), all[i].scores.bytes()), 0);
        EXPECT_EQ(std::memcmp(all[i].indices.raw(), all[i % 2].indices.raw(), all[i].indices.bytes()), 0);
    }
    // a query alone scores as among others
    const bf::TopK one = bf::top_k(many.rows(321, 322), gallery, 7);
    EXPECT_EQ(std::memcmp(one.scores.raw(), all[1].scores.rows(321, 322).raw(), one.scores.bytes()), 0);
}

TEST(Search, EachPairIsSeenOnce) {
    for (const auto& [q, n] : {std::pair{7, 100}, std::pair{530, 70}}) {
        const Tensor queries = random_rows(q, 4, 8), gallery = random_rows(n, 4, 9);
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(q * n));
        bf::for_each_score(
            queries, gallery, {},
            [&, n = n](std::int64_t slot, std::int64_t i, std::int64_t first, std::span<const float> scores) {
                ASSERT_LT(slot, bf::score_slots(queries.dim(0)));
                for (std::size_t r = 0; r < scores.size(); ++r) ++seen[static_cast<std::size_t>(i * n + first) + r];
            });
        for (const auto& count : seen) ASSERT_EQ(count, 1);
    }
}

TEST(Search, FewerRowsThanAsked) {
    const Tensor gallery = random_rows(3, 5, 1);
    const std::vector<std::int64_t> self{1};
    const bf::TopK top = bf::top_k(random_rows(1, 5, 2), gallery, 4, {.exclude_self = self});
    EXPECT_EQ(top.indices.data<std::int64_t>()[2], -1);
    EXPECT_EQ(top.scores.data<float>()[3], -std::numeric_limits<float>::infinity());
    EXPECT_NE(top.indices.data<std::int64_t>()[1], -1);
    EXPECT_EQ(bf::top_k(random_rows(2, 5, 2), Tensor::empty({0, 5}), 1).indices.data<std::int64_t>()[1], -1);
    EXPECT_EQ(bf::top_k(Tensor::empty({0, 5}), gallery, 1).scores.dim(0), 0);
    // a row of zeros has cosine 0 to everything
    EXPECT_EQ(bf::top_k(bf::full({1, 5}, 0), gallery, 1).scores.data<float>()[0], 0.0f);
}

TEST(Search, WrongArguments) {
    const Tensor a = random_rows(3, 5, 1), b = random_rows(4, 6, 2);
    const std::vector<std::int64_t> two{0, 1};
    EXPECT_THROW(bf::top_k(a, b, 1), bf::Error);
    EXPECT_THROW(bf::top_k(a, a, 0), bf::Error);
    EXPECT_THROW(bf::top_k(a, a, 1, {.exclude_self = two}), bf::Error);
    b.data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    try {
        bf::top_k(random_rows(1, 6, 1), b, 1);
        ADD_FAILURE() << "a gallery with NaN passed";
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::data);
        EXPECT_NE(std::string(e.what()).find("gallery row 1 is not finite"), std::string::npos) << e.what();
    }
}

TEST(Search, ThresholdOfAFarCountsAllPairs) {
    const std::int64_t n = 150, dim = 6;
    const Tensor e = random_rows(n, dim, 11);
    std::vector<std::int64_t> identity;
    for (std::int64_t i = 0; i < n; ++i) identity.push_back(i % 40 < 5 ? 3 : i % 40);
    std::copy_n(e.data<float>(), dim, e.data<float>() + 77 * dim);  // two people with one image
    std::vector<double> impostor, genuine;
    for (std::int64_t i = 0; i < n; ++i) {
        const Plain p = plain_search(e, i, e, true, -1);
        for (std::int64_t k = i + 1; k < n; ++k)
            (identity[static_cast<std::size_t>(i)] == identity[static_cast<std::size_t>(k)] ? genuine : impostor)
                .push_back(p.scores[static_cast<std::size_t>(k)]);
    }
    ASSERT_NE(identity[0], identity[77]);
    std::sort(impostor.rbegin(), impostor.rend());
    const auto pairs = static_cast<double>(impostor.size());
    for (const double far : {0.5, 0.1, 1e-2, 1e-3}) {
        const bf::FarThreshold t = bf::far_threshold(e, identity, far);
        EXPECT_EQ(t.impostors, static_cast<std::int64_t>(impostor.size()));
        EXPECT_EQ(t.genuine, static_cast<std::int64_t>(genuine.size()));
        const auto accepted = [&](const std::vector<double>& all, double threshold) {
            return std::count_if(all.begin(), all.end(), [&](double s) { return s >= threshold; });
        };
        // a step of the histogram and the rounding of f32 to both sides
        EXPECT_LE(accepted(impostor, t.threshold + 1e-6), t.impostors_accepted);
        EXPECT_GE(accepted(impostor, t.threshold - 1e-6), t.impostors_accepted);
        EXPECT_LE(accepted(genuine, t.threshold + 1e-6), t.genuine_accepted);
        EXPECT_GE(accepted(genuine, t.threshold - 1e-6), t.genuine_accepted);
        EXPECT_LE(t.far(), far);
        // the lowest: a little below it too many are accepted
        EXPECT_GT(static_cast<double>(accepted(impostor, t.threshold - 4e-6)), far * pairs) << far;
    }
    EXPECT_EQ(bf::far_threshold(e, identity, 1).threshold, -1);
    EXPECT_EQ(bf::far_threshold(e, identity, 1 / pairs).impostors_accepted, 1);  // the FAR itself is allowed
    try {
        bf::far_threshold(e, identity, 1e-6);
        ADD_FAILURE() << "a FAR that no pair can show";
    } catch (const bf::Error& error) {
        EXPECT_EQ(error.code(), bf::ErrorCode::usage);
        EXPECT_NE(std::string(error.what()).find("wants at least 1000000 pairs"), std::string::npos) << error.what();
    }
    // all alike: nothing can be accepted
    const std::vector<std::int64_t> two{0, 1, 2};
    const bf::FarThreshold none = bf::far_threshold(bf::full({3, 4}, 0.3), two, 0.5);
    EXPECT_GT(none.threshold, 1);
    EXPECT_EQ(none.impostors_accepted, 0);
}

TEST(Search, EachPairCountsOnceAcrossBlocks) {
    const std::int64_t n = 1100;  // more than a block of rows
    std::vector<std::int64_t> identity(static_cast<std::size_t>(n));
    std::iota(identity.begin(), identity.end(), 0);
    identity[1099] = 5;
    const bf::FarThreshold t = bf::far_threshold(random_rows(n, 2, 12), identity, 1);
    EXPECT_EQ(t.impostors_accepted, n * (n - 1) / 2 - 1);
    EXPECT_EQ(t.genuine_accepted, 1);
}

}  // namespace

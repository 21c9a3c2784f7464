#include "bf/eval/bootstrap.hpp"

#include <gtest/gtest.h>

#include "bf/eval/significance.hpp"
#include "bf/eval/verification_intervals.hpp"
#include "golden.hpp"

namespace {

const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/eval/protocol_golden.txt");
    return g;
}
std::vector<char> flags(const std::string& name) {
    std::vector<char> out;
    for (const double v : golden()[name]) out.push_back(v != 0);
    return out;
}
std::vector<std::int64_t> whole(const std::string& name) { return {golden()[name].begin(), golden()[name].end()}; }

struct Pairs {
    std::vector<double> scores = golden()["boot.scores"];
    std::vector<char> same = flags("boot.same"), right = flags("boot.right");
    std::vector<int> fold{golden()["boot.fold"].begin(), golden()["boot.fold"].end()};
    bf::Resampling by_subject() const {
        const auto people = whole("boot.people");
        std::vector<std::pair<std::int64_t, std::int64_t>> subjects;
        for (std::size_t i = 0; i < people.size(); i += 2) subjects.emplace_back(people[i], people[i + 1]);
        return bf::Resampling::subject_pairs(subjects);
    }
    /// Fold-wise accuracy, TAR@FAR=0.1, AUC.
    std::vector<bf::Interval> intervals(const bf::Resampling& resampling) const {
        const bf::WeightedRoc roc(scores, same, {0.1});
        return bf::bootstrap(resampling, 3,
                             [&](std::span<const std::uint32_t> weights, std::span<double> out) {
                                 double figures[3];
                                 roc(weights, figures);
                                 out[0] = bf::weighted_fold_share(right, {}, fold, 3, weights);
                                 out[1] = figures[0];
                                 out[2] = figures[1];
                             },
                             {.rounds = 300, .seed = 5});
    }
};

TEST(Bootstrap, WeightsAndIntervalsAgreeWithTheIndependentOnes) {
    const Pairs p;
    for (const bool subject : {false, true}) {
        const std::string name = subject ? "boot.subject" : "boot.pair";
        SCOPED_TRACE(name);
        const bf::Resampling resampling = subject ? p.by_subject() : bf::Resampling::items(p.scores.size());
        std::vector<std::uint32_t> weights(p.scores.size());
        for (std::uint64_t round = 0; round < 3; ++round) {
            resampling.draw(5, round, weights);
            EXPECT_EQ(std::vector<double>(weights.begin(), weights.end()),
                      golden()[name + ".weights" + std::to_string(round)]);
        }
        const auto intervals = p.intervals(resampling);
        for (std::size_t k = 0; k < 3; ++k) {
            EXPECT_NEAR(intervals[k].low, golden()[name + ".intervals"][2 * k], 1e-12) << k;
            EXPECT_NEAR(intervals[k].high, golden()[name + ".intervals"][2 * k + 1], 1e-12) << k;
        }
    }
    const auto& values = golden()["boot.values"];
    const auto mean = [&](std::span<const std::uint32_t> weights, std::span<double> out) {
        out[0] = bf::weighted_mean(values, weights);
    };
    const auto cluster =
        bf::bootstrap(bf::Resampling::clusters(whole("boot.cluster")), 1, mean, {.rounds = 300, .seed = 5})[0];
    EXPECT_NEAR(cluster.low, golden()["boot.cluster.interval"][0], 1e-12);
    EXPECT_NEAR(cluster.high, golden()["boot.cluster.interval"][1], 1e-12);
    const auto alone = bf::bootstrap_mean(values, {.rounds = 300, .seed = 5});
    EXPECT_NEAR(alone.low, golden()["boot.mean.interval"][0], 1e-12);
    EXPECT_NEAR(alone.high, golden()["boot.mean.interval"][1], 1e-12);
}

TEST(Bootstrap, SameBitsForAnyNumberOfThreads) {
    const Pairs p;
    const int before = bf::cpu_pool().threads();
    bf::cpu_pool().resize(1);
    const auto one = p.intervals(p.by_subject());
    bf::cpu_pool().resize(4);
    const auto four = p.intervals(p.by_subject());
    bf::cpu_pool().resize(before);
    for (std::size_t k = 0; k < 3; ++k) {
        EXPECT_EQ(one[k].low, four[k].low);
        EXPECT_EQ(one[k].high, four[k].high);
    }
}

TEST(Bootstrap, WeightsOfOneGiveTheFiguresOfRoc) {
    const Pairs p;
    const bf::Roc roc(p.scores, p.same);
    const std::vector<double> fars{0, 0.05, 0.1, 0.5, 1};
    const bf::WeightedRoc weighted(p.scores, p.same, fars);
    std::vector<double> figures(weighted.size());
    weighted(std::vector<std::uint32_t>(p.scores.size(), 1), figures);
    for (std::size_t k = 0; k < fars.size(); ++k) EXPECT_EQ(figures[k], roc.tar_at(fars[k])) << fars[k];
    EXPECT_NEAR(figures[5], roc.auc(), 1e-15);
    EXPECT_EQ(figures[6], roc.eer());
    weighted(std::vector<std::uint32_t>(p.scores.size(), 0), figures);
    EXPECT_TRUE(std::isnan(figures[0]));
}

TEST(Bootstrap, NoIntervalFromRoundsWithoutAFigure) {
    const double nan = std::nan("");
    EXPECT_TRUE(std::isnan(bf::percentile_interval(std::vector<double>{nan, 1, nan, 2}, 1, 0).low));
    EXPECT_EQ(bf::percentile_interval(std::vector<double>{3, nan, 3, 3}, 1, 0).low, 3);
    EXPECT_THROW(bf::Resampling::items(0), bf::Error);
    EXPECT_THROW(bf::bootstrap_mean(std::vector<double>{1}, {.rounds = 0}), bf::Error);
    EXPECT_THROW(bf::Resampling::subject_pairs({{0, -1}}), bf::Error);
}

TEST(Significance, McNemarAgreesWithScipy) {
    const auto table = whole("mcnemar.table");
    for (std::size_t i = 0; i < table.size() / 2; ++i) {
        const double want = golden()["mcnemar.p"][i];
        EXPECT_NEAR(bf::mcnemar_p(table[2 * i], table[2 * i + 1]), want, 1e-11 * want) << i;
        EXPECT_EQ(bf::mcnemar_p(table[2 * i], table[2 * i + 1]), bf::mcnemar_p(table[2 * i + 1], table[2 * i]));
    }
    const auto m = bf::mcnemar(std::vector<char>{1, 1, 0, 0, 1}, std::vector<char>{1, 0, 1, 0, 0});
    EXPECT_EQ(m.only_first, 2);
    EXPECT_EQ(m.only_second, 1);
    EXPECT_THROW(bf::mcnemar(std::vector<char>{1}, std::vector<char>{1, 0}), bf::Error);
}

TEST(Significance, PermutationsComeNearTheExactTest) {
    const auto& d = golden()["permutation.difference"];
    const double exact = golden()["permutation.p"][0], rounds = 20000;
    EXPECT_NEAR(bf::permutation_p(d, 20000), exact, 4 * std::sqrt(exact * (1 - exact) / rounds));
    EXPECT_EQ(bf::permutation_p(std::vector<double>{0, 0, std::nan("")}, 99), 1);
    EXPECT_EQ(bf::permutation_p(std::vector<double>(64, 1), 99), 0.01);  // never by chance: 1 / (rounds + 1)
}

TEST(Significance, BootstrapSharesOnBothSides) {
    EXPECT_EQ(bf::bootstrap_p(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9}, 1, 0), 0.2);
    EXPECT_EQ(bf::bootstrap_p(std::vector<double>{-1, 2, 3, 4, 5, 6, 7, 8, 9}, 1, 0), 0.4);
    EXPECT_EQ(bf::bootstrap_p(std::vector<double>(9, 0), 1, 0), 1);  // no difference at all
}

}  // namespace

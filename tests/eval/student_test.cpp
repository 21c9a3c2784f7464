#include "bf/eval/student.hpp"

#include <gtest/gtest.h>

#include "errors.hpp"
#include "golden.hpp"

namespace {

const Golden& student_golden() {
    static const Golden golden(BF_TEST_DIR "/eval/student_golden.txt");
    return golden;
}

TEST(Student, QuantilesAndTailsAreSciPys) {
    const Golden& g = student_golden();
    const auto &p = g["p"], &freedom = g["freedom"], &t = g["t"];
    for (std::size_t f = 0; f < freedom.size(); ++f) {
        for (std::size_t i = 0; i < p.size(); ++i) {
            const double want = g["quantiles"][f * p.size() + i];
            EXPECT_NEAR(bf::student_quantile(p[i], freedom[f]), want, 1e-9 * (1 + std::abs(want)))
                << p[i] << " at " << freedom[f];
        }
        for (std::size_t i = 0; i < t.size(); ++i) {
            const double want = g["tails"][f * t.size() + i];
            EXPECT_NEAR(bf::student_tail(t[i], freedom[f]), want, 1e-9 * want) << t[i] << " at " << freedom[f];
        }
    }
    EXPECT_THROW(bf::student_quantile(1, 3), bf::Error);
    EXPECT_THROW(bf::student_quantile(0.5, 0), bf::Error);
}

TEST(Student, IntervalsOfMeansAndOfPairedDifferences) {
    const Golden& g = student_golden();
    const bf::MeanInterval m = bf::student_interval(g["a"]);
    EXPECT_NEAR(m.mean, g["interval"][0], 1e-12);
    EXPECT_NEAR(m.low(), g["interval"][1], 1e-9);
    EXPECT_NEAR(m.high(), g["interval"][2], 1e-9);
    std::vector<double> differences;
    for (std::size_t i = 0; i < g["a"].size(); ++i) differences.push_back(g["b"][i] - g["a"][i]);
    const bf::MeanInterval d = bf::student_interval(differences);
    EXPECT_NEAR(d.mean, g["paired"][0], 1e-12);
    EXPECT_NEAR(d.low(), g["paired"][1], 1e-9);
    EXPECT_NEAR(d.high(), g["paired"][2], 1e-9);
    EXPECT_FALSE(d.holds(0));
    EXPECT_TRUE(d.holds(d.mean));
}

TEST(Student, FewValues) {
    const bf::MeanInterval none = bf::student_interval({}), one = bf::student_interval(std::vector<double>{3.0});
    EXPECT_EQ(none.n, 0);
    EXPECT_TRUE(std::isnan(none.mean));
    EXPECT_EQ(one.n, 1);
    EXPECT_EQ(one.mean, 3);
    EXPECT_TRUE(std::isnan(one.half));
    EXPECT_FALSE(one.holds(3));  // nothing is known of its spread
    const bf::MeanInterval equal = bf::student_interval(std::vector<double>{2.0, 2.0, 2.0});
    EXPECT_EQ(equal.half, 0);
    EXPECT_TRUE(equal.holds(2));
}

}  // namespace

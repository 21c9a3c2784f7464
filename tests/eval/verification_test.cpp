#include "bf/eval/verification.hpp"

#include <gtest/gtest.h>

#include "bf/eval/bootstrap.hpp"
#include "bf/eval/roc.hpp"
#include "golden.hpp"

namespace {

using bf::Tensor;

TEST(Verification, AgreesWithTheProtocolWrittenOut) {
    const Golden golden(std::string(BF_TEST_DIR) + "/eval/verification_golden.txt");
    for (int i = 0; i < 4; ++i) {
        const std::string c = "case" + std::to_string(i);
        SCOPED_TRACE(c);
        const std::vector<double>& d = golden[c + ".d"];
        std::vector<char> same;
        for (const double s : golden[c + ".same"]) same.push_back(s != 0);
        const auto r = bf::verify_folds(d, same, static_cast<int>(golden[c + ".folds"][0]));
        ASSERT_EQ(r.accuracy.size(), golden[c + ".accuracy"].size());
        for (std::size_t f = 0; f < r.accuracy.size(); ++f) {
            EXPECT_NEAR(r.accuracy[f], golden[c + ".accuracy"][f], 1e-12) << f;
            EXPECT_NEAR(r.thresholds[f], golden[c + ".thresholds"][f], 1e-12) << f;
        }
        EXPECT_NEAR(r.mean, golden[c + ".mean"][0], 1e-12);
        EXPECT_NEAR(r.std, golden[c + ".std"][0], 1e-12);
        EXPECT_NEAR(r.standard_error, golden[c + ".se"][0], 1e-12);
        std::vector<double> scores;
        for (const double v : d) scores.push_back(-v);
        const bf::Roc roc(scores, same);
        const double fars[] = {0, 0.01, 0.1, 0.3, 1};
        for (std::size_t k = 0; k < 5; ++k) EXPECT_NEAR(roc.tar_at(fars[k]), golden[c + ".tar"][k], 1e-12) << fars[k];
        EXPECT_NEAR(roc.auc(), golden[c + ".auc"][0], 1e-12);
    }
}

TEST(Verification, TarAtAFarAgreesWithTheProtocolWrittenOut) {
    const Golden golden(std::string(BF_TEST_DIR) + "/eval/verification_golden.txt");
    for (int i = 0; i < 4; ++i) {
        const std::string c = "case" + std::to_string(i);
        const std::vector<double>& d = golden[c + ".d"];
        std::vector<char> same;
        for (const double s : golden[c + ".same"]) same.push_back(s != 0);
        const int folds = static_cast<int>(golden[c + ".folds"][0]);
        for (const auto& [far, name] : {std::pair{1e-3, "0.001"}, std::pair{0.2, "0.2"}}) {
            SCOPED_TRACE(c + " " + name);
            const auto r = bf::tar_explicit_folds(d, same, bf::contiguous_folds(d.size(), folds), folds, far);
            for (std::size_t f = 0; f < r.tar.size(); ++f) {
                EXPECT_NEAR(r.tar[f], golden[c + ".tar_folds_" + name][f], 1e-12) << f;
                EXPECT_NEAR(r.thresholds[f], golden[c + ".tar_thresholds_" + name][f], 1e-12) << f;
            }
            EXPECT_NEAR(r.mean, golden[c + ".tar_mean_" + name][0], 1e-12);
            EXPECT_NEAR(r.std, golden[c + ".tar_mean_" + name][1], 1e-12);
            EXPECT_NEAR(r.far, golden[c + ".tar_mean_" + name][2], 1e-12);
        }
    }
    const auto never = bf::tar_explicit_folds(std::vector<double>{0.5, 4, 0.1, 4}, std::vector<char>{1, 0, 1, 0},
                                              std::vector<int>{0, 0, 1, 1}, 2);
    EXPECT_EQ(never.tar, golden["unreached.tar_folds"]);
}

TEST(Verification, AgreesWithScikitLearn) {
    const Golden golden(std::string(BF_TEST_DIR) + "/eval/protocol_golden.txt");
    for (const std::string c : {"verify0", "verify1"}) {
        SCOPED_TRACE(c);
        const std::vector<double>& d = golden[c + ".d"];
        std::vector<char> same;
        for (const double s : golden[c + ".same"]) same.push_back(s != 0);
        const std::vector<int> fold = bf::contiguous_folds(d.size(), 10);
        const auto r = bf::verify_explicit_folds(d, same, fold, 10);
        EXPECT_EQ(r.thresholds, golden[c + ".thresholds"]);
        EXPECT_EQ(r.accuracy, golden[c + ".accuracy"]);
        EXPECT_NEAR(r.mean, golden[c + ".mean"][0], 1e-15);
        EXPECT_NEAR(r.std, golden[c + ".mean"][1], 1e-15);
        EXPECT_NEAR(r.standard_error, golden[c + ".mean"][2], 1e-15);
        const auto tar = bf::tar_explicit_folds(d, same, fold, 10, 0.05);
        EXPECT_EQ(tar.tar, golden[c + ".tar"]);
        std::vector<double> scores;
        for (const double v : d) scores.push_back(1 - v / 2);
        const auto zoo = bf::verify_tpr_fpr_folds(scores, same, fold, 10);
        EXPECT_EQ(zoo.accuracy, golden[c + ".zoo"]);
        for (std::size_t f = 0; f < 10; ++f) {
            EXPECT_NEAR(tar.thresholds[f], golden[c + ".tar_thresholds"][f], 1e-12) << f;
            EXPECT_NEAR(zoo.thresholds[f], golden[c + ".zoo_thresholds"][f], 1e-12) << f;
        }
        EXPECT_NEAR(zoo.mean, golden[c + ".zoo_mean"][0], 1e-15);
        EXPECT_NEAR(zoo.standard_error, golden[c + ".zoo_mean"][1], 1e-15);
        const bf::Roc roc(scores, same);
        EXPECT_NEAR(roc.auc(), golden[c + ".auc"][0], 1e-14);
        EXPECT_NEAR(roc.eer(), golden[c + ".eer"][0], 1e-14);
        const auto& fars = golden[c + ".fars"];
        for (std::size_t k = 0; k < fars.size(); ++k) {
            EXPECT_EQ(roc.tar_at(fars[k]), golden[c + ".tar_strict"][k]) << fars[k];
            EXPECT_EQ(roc.tar_nearest(fars[k]), golden[c + ".tar_nearest"][k]) << fars[k];
        }
        // View 1: two folds, of which the first chooses and the second is tested
        std::vector<int> view1(d.size(), 1);
        std::fill_n(view1.begin(), 120, 0);
        const auto held_out = bf::verify_explicit_folds(d, same, view1, 2);
        EXPECT_EQ(held_out.thresholds[1], golden[c + ".view1"][0]);
        EXPECT_EQ(held_out.accuracy[1], golden[c + ".view1"][1]);
    }
}

TEST(Verification, AVideoIsTheMeanOfItsFrames) {
    const Tensor e = Tensor::from<float>({2, 0, 4, 6, 1, 1, 5, 3}, {4, 2});
    const Tensor means = bf::mean_rows(e, std::vector<std::int64_t>{0, 2, 3, 4});
    EXPECT_EQ(means.dim(0), 3);
    EXPECT_EQ(means.data<float>()[0], 3);
    EXPECT_EQ(means.data<float>()[1], 3);
    EXPECT_EQ(means.data<float>()[5], 3);
    EXPECT_THROW(bf::mean_rows(e, std::vector<std::int64_t>{0, 2, 2}), bf::Error);
    EXPECT_THROW(bf::mean_rows(e, std::vector<std::int64_t>{0, 5}), bf::Error);
}

TEST(Verification, FoldsAsScikitLearnCutsThem) {
    EXPECT_EQ(bf::contiguous_folds(7, 3), (std::vector<int>{0, 0, 0, 1, 1, 2, 2}));
}

TEST(Verification, DistancesOfUnitVectors) {
    const Tensor e = Tensor::from<float>({2, 0, 0, 5, -3, 0, 0, 0}, {4, 2});
    const std::vector<std::pair<std::int64_t, std::int64_t>> pairs{{0, 0}, {0, 1}, {0, 2}, {0, 3}};
    const auto d = bf::pair_distances(e, pairs);
    EXPECT_NEAR(d[0], 0, 1e-12);
    EXPECT_NEAR(d[1], 2, 1e-12);
    EXPECT_NEAR(d[2], 4, 1e-12);
    EXPECT_NEAR(d[3], 2, 1e-12);  // a zero embedding is alike to nothing
    EXPECT_EQ(bf::flip_sum(e, e).data<float>()[0], 4);
    EXPECT_NEAR(bf::mean_norm(e), 2.5, 1e-12);
}

TEST(Verification, RefusesWhatItCannotScore) {
    EXPECT_THROW(bf::verify_folds(std::vector<double>{1, 2}, std::vector<char>{1}, 2), bf::Error);
    EXPECT_THROW(bf::verify_folds(std::vector<double>{1, 2}, std::vector<char>{1, 0}, 3), bf::Error);
    EXPECT_THROW(bf::Roc(std::vector<double>{1, 2}, std::vector<char>{1, 1}), bf::Error);
    const Tensor e = Tensor::from<float>({2, 0, std::nanf(""), 5}, {2, 2});
    try {
        bf::pair_distances(e, std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}});
        FAIL() << "a NaN went unnoticed";
    } catch (const bf::Error& error) {
        EXPECT_EQ(error.code(), bf::ErrorCode::diverged);
        EXPECT_NE(std::string(error.what()).find("row 1"), std::string::npos) << error.what();
    }
    EXPECT_THROW(bf::Roc(std::vector<double>{1, std::nan("")}, std::vector<char>{1, 0}), bf::Error);
}

TEST(Roc, NearestMayExceedAndStrictDoesNot) {
    // impostors at 0.9 and 0.5 of ten: FAR steps of 0.1
    std::vector<double> scores{0.95, 0.7, 0.6, 0.4, 0.9, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1};
    std::vector<char> same{1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const bf::Roc roc(scores, same);
    EXPECT_DOUBLE_EQ(roc.tar_at(0.09), 0.25);
    EXPECT_DOUBLE_EQ(roc.tar_nearest(0.09), 0.75);
    EXPECT_DOUBLE_EQ(roc.tar_at(0.1), 0.75);
    EXPECT_NEAR(roc.eer(), 0.2, 0.06);
}

TEST(Bootstrap, CoversTheMeanAndIsSeeded) {
    std::vector<double> values;
    for (int i = 0; i < 400; ++i) values.push_back(i % 4 == 0);
    const auto a = bf::bootstrap_mean(values), b = bf::bootstrap_mean(values);
    EXPECT_EQ(a.low, b.low);
    EXPECT_LT(a.low, 0.25);
    EXPECT_GT(a.high, 0.25);
    EXPECT_NEAR(a.high - a.low, 2 * 1.96 * std::sqrt(0.25 * 0.75 / 400), 0.02);
}

}  // namespace

#include "bf/eval/retrieval.hpp"

#include <gtest/gtest.h>

#include "golden.hpp"

namespace {

using bf::Tensor;

std::vector<std::int64_t> integers(const std::vector<double>& values) { return {values.begin(), values.end()}; }

void expect_golden(const Golden& golden, const std::string& name, bool apart) {
    SCOPED_TRACE(name);
    const auto dim = static_cast<std::int64_t>(golden[name + ".dim"][0]);
    const auto rows = [&](const std::string& part) {
        return golden.tensor(name + part, {static_cast<std::int64_t>(golden[name + part].size()) / dim, dim},
                             bf::DType::f32);
    };
    const bf::RetrievalOptions options{.ks = integers(golden[name + ".ks"])};
    const auto r = apart ? bf::retrieve(rows(".query"), integers(golden[name + ".query_labels"]), rows(".gallery"),
                                        integers(golden[name + ".gallery_labels"]), options)
                         : bf::retrieve(rows(".query"), integers(golden[name + ".query_labels"]), options);
    EXPECT_EQ(r.recall, golden[name + ".recall"]);
    const std::vector<std::int64_t> first = integers(golden[name + ".first"]);
    ASSERT_EQ(r.first_hit.size(), first.size());
    for (std::size_t q = 0; q < first.size(); ++q)  // ranks beyond the largest K need not have been looked at
        EXPECT_TRUE(r.first_hit[q] == first[q] || (r.first_hit[q] == 0 && first[q] > options.ks.back()))
            << q << ": " << r.first_hit[q] << ", want " << first[q];
    EXPECT_EQ(r.without_match, static_cast<std::int64_t>(golden[name + ".without_match"][0]));
    EXPECT_NEAR(r.r_precision, golden[name + ".r_precision"][0], 1e-14);
    EXPECT_NEAR(r.map_at_r, golden[name + ".map_at_r"][0], 1e-14);
    const auto& one = golden[name + ".query_map_at_r"];
    ASSERT_EQ(r.query_map_at_r.size(), one.size());
    for (std::size_t q = 0; q < one.size(); ++q) {
        const double got = r.query_map_at_r[q];  // -1 stands for not defined
        EXPECT_NEAR(std::isnan(got) ? -1 : got, one[q], 1e-14) << q;
    }
}

TEST(Retrieval, AgreesWithTheFormulasWrittenOut) {
    const Golden golden(std::string(BF_TEST_DIR) + "/eval/protocol_golden.txt");
    expect_golden(golden, "ties", false);  // duplicates, equal distances, classes of one image, K beyond the set
    expect_golden(golden, "apart", true);
    expect_golden(golden, "smooth", false);
}

TEST(Retrieval, SelfIsMaskedByItsPlaceNotByItsDistance) {
    // 0 and 1 are duplicates of two classes, 2 is near: the twin is found first, and is wrong
    const Tensor e = Tensor::from<float>({1, 0, 1, 0, 0.9f, 0.1f, 0, 1}, {4, 2});
    const auto r = bf::retrieve(e, std::vector<std::int64_t>{7, 8, 7, 8}, {.ks = {1, 2, 3}});
    EXPECT_EQ(r.first_hit, (std::vector<std::int64_t>{2, 3, 1, 3}));
    EXPECT_EQ(r.recall, (std::vector<double>{0.25, 0.5, 1}));
}

TEST(Retrieval, RefusesWhatItCannotSearch) {
    const Tensor e = Tensor::from<float>({1, 0, 0, 1}, {2, 2});
    EXPECT_THROW(bf::retrieve(e, std::vector<std::int64_t>{1}, {}), bf::Error);
    EXPECT_THROW(bf::retrieve(e, std::vector<std::int64_t>{1, 2}, {.ks = {0}}), bf::Error);
    EXPECT_THROW(bf::retrieve(e, std::vector<std::int64_t>{1, 2}, {.ks = {}}), bf::Error);
    const Tensor bad = Tensor::from<float>({1, 0, std::nanf(""), 1}, {2, 2});
    EXPECT_THROW(bf::retrieve(bad, std::vector<std::int64_t>{1, 2}, {}), bf::Error);
    // nobody has a match: recall is 0, the others are not defined
    const auto r = bf::retrieve(e, std::vector<std::int64_t>{1, 2}, {.ks = {1}});
    EXPECT_EQ(r.recall[0], 0);
    EXPECT_EQ(r.without_match, 2);
    EXPECT_TRUE(std::isnan(r.map_at_r));
}

}  // namespace

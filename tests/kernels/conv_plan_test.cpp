// How the CUDA backend chooses plans of convolutions: the part of it that needs no GPU.
#include "../../cuda/conv_plan.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace {

using bf::ConvAlgorithm;
using bf::ConvGeometry;
using bf::DType;
using namespace bf::cuda;

const ConvGeometry geometry{
    .n = 2, .c_in = 3, .h = 9, .w = 7, .c_out = 20, .kernel_h = 3, .kernel_w = 5, .stride = 2, .pad = 1, .groups = 1};
const ConvSettings usual{.tf32 = true, .deterministic = false, .autotune = true, .workspace_limit = 1 << 20};

PlanKey usual_key() { return plan_key(ConvPass::forward, geometry, DType::f32, ConvAlgorithm::automatic, usual); }

TEST(ConvPlan, EachFieldOfTheKeyCounts) {
    std::vector<PlanKey> keys(1, usual_key());
    const auto add = [&](auto change) {
        keys.push_back(usual_key());
        change(keys.back());
    };
    add([](PlanKey& k) { k.pass = ConvPass::dx; });
    add([](PlanKey& k) { k.pass = ConvPass::dw; });
    for (std::int64_t ConvGeometry::*field : {&ConvGeometry::n, &ConvGeometry::c_in, &ConvGeometry::h, &ConvGeometry::w,
                                              &ConvGeometry::c_out, &ConvGeometry::kernel_h, &ConvGeometry::kernel_w,
                                              &ConvGeometry::stride, &ConvGeometry::pad, &ConvGeometry::groups})
        add([&](PlanKey& k) { k.g.*field += 20; });
    add([](PlanKey& k) { k.dtype = DType::bf16; });
    add([](PlanKey& k) { k.rules.tensor_cores = false; });
    add([](PlanKey& k) { k.rules.transforms = false; });
    add([](PlanKey& k) { k.rules.nondeterministic = false; });
    add([](PlanKey& k) { k.autotune = false; });
    add([](PlanKey& k) { k.workspace_limit += 1; });
    std::map<PlanKey, std::size_t> cache;
    for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_TRUE(cache.emplace(keys[i], i).second) << i;
    for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(cache.at(keys[i]), i);
    EXPECT_EQ(usual_key(), usual_key());
    EXPECT_EQ(sizeof(ConvGeometry), 10 * sizeof(std::int64_t)) << "a new field of ConvGeometry belongs into the key";
}

TEST(ConvPlan, SettingsThatDoNotMatterShareAPlan) {
    ConvSettings exact = usual;
    exact.tf32 = false;
    const auto key = [](DType dtype, ConvAlgorithm algorithm, const ConvSettings& s) {
        return plan_key(ConvPass::dw, geometry, dtype, algorithm, s);
    };
    EXPECT_EQ(key(DType::bf16, ConvAlgorithm::automatic, usual), key(DType::bf16, ConvAlgorithm::automatic, exact));
    EXPECT_EQ(key(DType::bf16, ConvAlgorithm::automatic, usual), key(DType::bf16, ConvAlgorithm::direct, usual));
    EXPECT_FALSE(key(DType::f32, ConvAlgorithm::automatic, usual) == key(DType::f32, ConvAlgorithm::automatic, exact));
    EXPECT_FALSE(key(DType::f32, ConvAlgorithm::automatic, usual) == key(DType::f32, ConvAlgorithm::direct, usual));
}

TEST(ConvPlan, DeterministicModeDoesNotChooseByTheClock) {
    ConvSettings s = usual;
    s.deterministic = true;
    EXPECT_TRUE(usual_key().autotune);
    EXPECT_FALSE(plan_key(ConvPass::dw, geometry, DType::f32, ConvAlgorithm::automatic, s).autotune);
}

TEST(ConvPlan, EnginesAreFilteredByTheirNotes) {
    using enum EngineNote;
    const auto rules = [](DType dtype, ConvAlgorithm algorithm, bool tf32, bool deterministic) {
        return engine_rules(dtype, algorithm,
                            {.tf32 = tf32, .deterministic = deterministic, .autotune = false, .workspace_limit = 0});
    };
    const EngineRules f32 = rules(DType::f32, ConvAlgorithm::automatic, true, false),
                      exact = rules(DType::f32, ConvAlgorithm::automatic, false, false),
                      direct = rules(DType::f32, ConvAlgorithm::direct, true, false),
                      bf16 = rules(DType::bf16, ConvAlgorithm::automatic, false, false),
                      repeatable = rules(DType::bf16, ConvAlgorithm::automatic, true, true);
    for (const EngineRules& r : {f32, exact, direct, bf16, repeatable}) {
        EXPECT_TRUE(allowed(0, r));
        EXPECT_TRUE(allowed(notes({strict_nan}), r));
        EXPECT_FALSE(allowed(notes({down_convert}), r));
        EXPECT_FALSE(allowed(notes({tensor_core, reduced_reduction}), r));
        EXPECT_FALSE(allowed(notes({winograd, winograd_13x13}), r));
    }
    EXPECT_TRUE(allowed(notes({tensor_core}), f32));
    EXPECT_FALSE(allowed(notes({tensor_core}), exact));
    EXPECT_TRUE(allowed(notes({tensor_core}), bf16)) << "TF32 says nothing about bf16";
    EXPECT_TRUE(allowed(notes({winograd, winograd_6x6}), exact));
    EXPECT_TRUE(allowed(notes({fft}), f32));
    EXPECT_FALSE(allowed(notes({winograd, winograd_6x6}), direct));
    EXPECT_FALSE(allowed(notes({fft}), direct));
    EXPECT_FALSE(allowed(notes({winograd}), bf16));
    EXPECT_TRUE(allowed(notes({tensor_core, nondeterministic}), bf16));
    EXPECT_FALSE(allowed(notes({tensor_core, nondeterministic}), repeatable));
    EXPECT_EQ(str(notes({tensor_core, nondeterministic})), "tensor_core+nondeterministic");
    EXPECT_EQ(str(EngineNotes{0}), "plain");
}

TEST(ConvPlan, ChannelsArePaddedForTensorCores) {
    const ConvGeometry bf16 = padded(geometry, DType::bf16, false), tf32 = padded(geometry, DType::f32, true),
                       f32 = padded(geometry, DType::f32, false);
    EXPECT_EQ(bf16.c_in, 8);
    EXPECT_EQ(bf16.c_out, 24);
    EXPECT_EQ(bf16.h_out(), geometry.h_out());
    EXPECT_EQ(tf32.c_in, 4);
    EXPECT_EQ(tf32.c_out, 20);
    EXPECT_EQ(f32.c_in, 3);
    EXPECT_EQ(f32.c_out, 20);
    ConvGeometry grouped = geometry;
    grouped.c_in = grouped.c_out = grouped.groups = 6;
    EXPECT_EQ(padded(grouped, DType::bf16, true).c_in, 6);
}

TEST(ConvPlan, AddressesOffTheGridAreSeen) {
    const auto at = [](std::uintptr_t p) { return reinterpret_cast<const void*>(p); };
    EXPECT_TRUE(aligned(at(0x500)));
    EXPECT_FALSE(aligned(at(0x508)));
    EXPECT_FALSE(aligned(at(0x502)));
}

TEST(ConvPlan, MessagesNameTheGeometry) {
    EXPECT_EQ(str(ConvPass::dx, geometry, DType::bf16),
              "dx of x [2, 3, 9, 7], w [20, 3, 3, 5], stride 2, pad 1, groups 1, bf16");
}

TEST(ConvPlan, HintsFitWhatWentWrong) {
    PlanKey key = usual_key();
    EXPECT_NE(plan_hint(key, {.proposed = 3, .too_large = 3, .refusal = ""}).find("workspace"), std::string::npos);
    EXPECT_NE(plan_hint(key, {.refusal = ""}).find("doctor"), std::string::npos);
    key.g.groups = 3;
    EXPECT_NE(plan_hint(key, {.refusal = ""}).find("groups"), std::string::npos);
    key.rules.tensor_cores = false;
    EXPECT_NE(plan_hint(key, {.proposed = 2, .dropped = 2, .refusal = ""}).find("TF32"), std::string::npos);
    key.rules.nondeterministic = false;
    EXPECT_NE(plan_hint(key, {.proposed = 2, .dropped = 2, .refusal = ""}).find("determin"), std::string::npos);
}

TEST(ConvPlan, OneEngineDoesNotTakeAllPlacesOfATuning) {
    const std::vector<std::int64_t> taken = {62, 62, 22, 62, 62, 62};
    EXPECT_FALSE(has_place(taken, 62));
    EXPECT_TRUE(has_place(taken, 22));
    EXPECT_TRUE(has_place({}, 62));
}

TEST(ConvPlan, MedianOfTimes) {
    std::vector<float> odd = {5, 1, 9, 2, 3}, even = {4, 1, 3, 2}, one = {7}, none;
    EXPECT_EQ(median(odd), 3);
    EXPECT_EQ(median(even), 2);
    EXPECT_EQ(median(one), 7);
    EXPECT_EQ(median(none), 0);
}

}  // namespace

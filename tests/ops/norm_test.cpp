// Batch norm fused with PReLU or a sum equals the same ops one after the other: outputs to the bit, gradients within
// rounding. The gradients themselves are proven by the rows of cases.cpp.
#include "bf/ops/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "bf/base/random.hpp"
#include "bf/ops/pointwise.hpp"

namespace {

using bf::BatchNormFusion;
using bf::DType;
using bf::Format;
using bf::Tensor;
using bf::Var;

Tensor draw(const bf::Shape& shape, DType dtype, std::uint64_t salt, Format format = Format::plain) {
    bf::Rng rng(31, bf::Stream::test, salt);
    Tensor t = Tensor::empty(shape, {.dtype = DType::f64});
    for (double& v : t.span<double>()) v = static_cast<double>(rng.normal());
    return bf::converted(t, dtype, format);
}
double at(const Tensor& t, std::int64_t i) {
    return t.dtype() == DType::f64 ? t.data<double>()[i] : static_cast<double>(t.data<float>()[i]);
}

enum class Tail { none, prelu, add };

/// Leaves x, gamma, beta, slope, residual and running statistics, and what one pass makes of them.
struct Layer {
    std::vector<Var> leaves;
    Tensor running_mean, running_var;
    Var y;

    Layer(const bf::Shape& shape, DType dtype, Format format, bool train, Tail tail, bool fused)
        : running_mean(draw({shape[1]}, dtype, 6)), running_var(bf::full({shape[1]}, 1.25, dtype)) {
        const bf::Shape c{shape[1]};
        leaves = {Var::leaf(draw(shape, dtype, 1, format)), Var::leaf(draw(c, dtype, 2)), Var::leaf(draw(c, dtype, 3)),
                  Var::leaf(draw(c, dtype, 4)), Var::leaf(draw(shape, dtype, 5, format))};
        const auto norm = [&](const BatchNormFusion& fusion) {
            return train
                       ? bf::batch_norm_train(leaves[0], leaves[1], leaves[2], running_mean, running_var, 0.1, 1e-5,
                                              fusion)
                       : bf::batch_norm_eval(leaves[0], leaves[1], leaves[2], running_mean, running_var, 1e-5, fusion);
        };
        if (tail == Tail::none)
            y = norm({});
        else if (tail == Tail::prelu)
            y = fused ? norm({.slope = leaves[3]}) : bf::prelu(norm({}), leaves[3]);
        else
            y = fused ? norm({.residual = leaves[4]}) : bf::add(norm({}), leaves[4]);
        bf::backward(y, draw(shape, dtype, 7, y.value().format()));
    }
};

class FusedNorm : public ::testing::TestWithParam<std::tuple<bool, Tail, DType>> {};

// Measured: gradients agree to the bit with gcc; the limits are what another order of a product and a sum may do.
TEST_P(FusedNorm, EqualsTheOpsOneAfterTheOther) {
    const auto [train, tail, dtype] = GetParam();
    const double limit = dtype == DType::f64 ? 1e-12 : 2e-5;
    for (const bf::Shape& shape :
         {bf::Shape{3, 5, 4, 3}, bf::Shape{2, 64, 20, 20}, bf::Shape{33, 7}, bf::Shape{90, 190}})
        for (const Format format : {Format::plain, Format::nhwc}) {
            if (shape.rank() == 2 && format == Format::nhwc) continue;
            SCOPED_TRACE(bf::concat(shape, format == Format::nhwc ? " nhwc" : " plain"));
            const Layer composed(shape, dtype, format, train, tail, false),
                fused(shape, dtype, format, train, tail, true);
            const Tensor &a = fused.y.value(), &b = composed.y.value();
            ASSERT_EQ(a.format(), b.format());
            EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0);
            EXPECT_EQ(std::memcmp(fused.running_mean.raw(), composed.running_mean.raw(), composed.running_mean.bytes()),
                      0);
            EXPECT_EQ(std::memcmp(fused.running_var.raw(), composed.running_var.raw(), composed.running_var.bytes()),
                      0);
            for (std::size_t k = 0; k < composed.leaves.size(); ++k) {
                const Tensor &got = fused.leaves[k].grad(), &want = composed.leaves[k].grad();
                ASSERT_EQ(got.defined(), want.defined()) << "leaf " << k;
                if (!want.defined()) continue;
                double worst = 0, largest = 0;
                for (std::int64_t i = 0; i < want.numel(); ++i) {
                    worst = std::max(worst, std::abs(at(got, i) - at(want, i)));
                    largest = std::max(largest, std::abs(at(want, i)));
                }
                EXPECT_GT(largest, 0) << "leaf " << k;
                EXPECT_LE(worst, limit * largest) << "leaf " << k;
            }
        }
}

std::string row_name(const ::testing::TestParamInfo<FusedNorm::ParamType>& row) {
    return bf::concat(std::get<0>(row.param) ? "train_" : "eval_",
                      std::get<1>(row.param) == Tail::prelu ? "prelu_" : "add_", bf::name_of(std::get<2>(row.param)));
}
INSTANTIATE_TEST_SUITE_P(Both, FusedNorm,
                         ::testing::Combine(::testing::Bool(), ::testing::Values(Tail::prelu, Tail::add),
                                            ::testing::Values(DType::f32, DType::f64)),
                         row_name);

TEST(FusedNormMemory, KeepsNoValueOfTheNormAndSharesTheGradientOfTheResidual) {
    const bf::Shape shape{4, 16, 32, 32};
    const auto live_after_forward = [&](Tail tail, bool fused) {
        const Var x = Var::leaf(draw(shape, DType::f32, 1, Format::nhwc)), gamma = Var::leaf(draw({16}, DType::f32, 2)),
                  beta = Var::leaf(draw({16}, DType::f32, 3)), slope = Var::leaf(draw({16}, DType::f32, 4)),
                  r = Var(draw(shape, DType::f32, 5, Format::nhwc));
        const std::size_t before = bf::cpu_allocator().stats().in_use;
        const auto norm = [&](const BatchNormFusion& fusion) {
            return bf::batch_norm_train(x, gamma, beta, {}, {}, 0.1, 1e-5, fusion);
        };
        const Var y = tail == Tail::prelu ? (fused ? norm({.slope = slope}) : bf::prelu(norm({}), slope))
                                          : (fused ? norm({.residual = r}) : norm({}));
        return bf::cpu_allocator().stats().in_use - before;
    };
    const std::size_t image = 4u * 16u * 32u * 32u * sizeof(float);
    EXPECT_GE(live_after_forward(Tail::prelu, false), 2 * image);
    EXPECT_LT(live_after_forward(Tail::prelu, true), image + image / 8);
    EXPECT_EQ(live_after_forward(Tail::add, true), live_after_forward(Tail::none, true));

    const Var x = Var::leaf(draw(shape, DType::f32, 1, Format::nhwc)), gamma = Var::leaf(draw({16}, DType::f32, 2)),
              beta = Var::leaf(draw({16}, DType::f32, 3)), r = Var::leaf(draw(shape, DType::f32, 5, Format::nhwc));
    const Tensor dy = draw(shape, DType::f32, 7, Format::nhwc);
    bf::backward(bf::batch_norm_train(x, gamma, beta, {}, {}, 0.1, 1e-5, {.residual = r}), dy);
    ASSERT_TRUE(r.grad().defined());
    EXPECT_EQ(r.grad().raw(), dy.raw());
}

TEST(FusedNormErrors, NameWhatDiffers) {
    const Var x(draw({4, 3, 2, 2}, DType::f32, 1)), c(draw({3}, DType::f32, 2)), wide(draw({4}, DType::f32, 2));
    const Tensor mean = bf::full({3}, 0), var = bf::full({3}, 1);
    const auto message = [&](const BatchNormFusion& fusion) -> std::string {
        try {
            bf::batch_norm_eval(x, c, c, mean, var, 1e-5, fusion);
        } catch (const bf::Error& e) {
            return e.what();
        }
        return "no error";
    };
    EXPECT_NE(message({.slope = c, .residual = x}).find("a slope or a residual"), std::string::npos);
    EXPECT_NE(message({.slope = wide}).find("slope differs"), std::string::npos);
    EXPECT_NE(message({.residual = Var(draw({4, 3, 4}, DType::f32, 3))}).find("residual differs"), std::string::npos);
    EXPECT_NE(message({.residual = Var(draw({4, 3, 2, 2}, DType::f64, 3))}).find("residual differs"),
              std::string::npos);
    EXPECT_EQ(message({.residual = x}), "no error");
    EXPECT_THROW(bf::batch_norm_train(x, c, c, {}, {}, 0.1, 1e-5, {.slope = c, .residual = x}), bf::Error);
}

}  // namespace

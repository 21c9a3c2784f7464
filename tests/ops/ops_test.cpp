// From each row of cases.cpp: the proofs that DESIGN 6 asks of an op.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "bf/autograd/gradcheck.hpp"
#include "bf/core/parallel.hpp"
#include "bf/ops/shape.hpp"
#include "cases.hpp"
#include "device.hpp"

namespace {

using bf::DType;
using bf::Format;
using bf::Tensor;
using bf::Var;
using bf::proof::Bf16;
using bf::proof::Case;
using bf::proof::Draw;
using bf::proof::Input;

Tensor draw(const Input& input, std::uint64_t salt, DType dtype = DType::f64) {
    bf::Rng rng(99, bf::Stream::test, salt);
    Tensor t = Tensor::empty(input.shape, {DType::f64, bf::cpu_device, input.format});
    std::int64_t i = 0;
    for (double& v : t.span<double>()) {
        const double n = static_cast<double>(rng.normal());
        switch (input.draw) {
            case Draw::normal: v = n; break;
            case Draw::away_from_zero: v = n + (n < 0 ? -0.1 : 0.1); break;
            case Draw::positive: v = 0.3 + std::abs(n); break;
            case Draw::distinct: v = 0.001 * static_cast<double>((i * 7919) % 10007) - 5; break;  // no two are close
        }
        if (std::abs(std::abs(v) - 1.05) < 1e-3) v += 0.01;  // the kinks of clamp(-1.05, 1.05)
        ++i;
    }
    return bf::converted(t, dtype, input.format);
}

std::vector<Tensor> draw_all(const Case& c, DType dtype = DType::f64) {
    std::vector<Tensor> all;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) all.push_back(draw(c.inputs[i], i, dtype));
    return all;
}

struct Result {
    Tensor y;
    std::vector<Tensor> gradients;
};

/// Output and gradients, on the device of the inputs, for the seed dy_i = cos(i) over the elements in N, C, H, W order;
/// `rounded`: as bf16 holds it.
Result run(const Case& c, const std::vector<Tensor>& inputs, const std::vector<Tensor>& start = {},
           bool rounded = false) {
    std::vector<Var> leaves;
    for (const Tensor& t : inputs) leaves.push_back(Var::leaf(t));
    for (std::size_t i = 0; i < start.size(); ++i) leaves[i].accumulate(start[i]);
    const Var y = c.f(leaves);
    Tensor dy = Tensor::empty(y.shape(), {.dtype = DType::f64});
    for (std::int64_t i = 0; i < dy.numel(); ++i) dy.data<double>()[i] = std::cos(static_cast<double>(i));
    if (rounded) dy = bf::converted(dy, DType::bf16, Format::plain);
    bf::backward(y, bf::converted(dy, y.value().dtype(), y.value().format()).to(y.value().device()));
    Result r{y.value(), {}};
    for (const Var& v : leaves) r.gradients.push_back(v.grad());
    return r;
}
Result run(const Case& c, DType dtype, const std::vector<Tensor>& start = {}) {
    return run(c, draw_all(c, dtype), start);
}

std::vector<Tensor> on_device(const std::vector<Tensor>& host) {
    std::vector<Tensor> all;
    for (const Tensor& t : host) all.push_back(t.to(test_device));
    return all;
}

double value_at(const Tensor& t, std::int64_t i) {
    return t.dtype() == DType::f64    ? t.data<double>()[i]
           : t.dtype() == DType::bf16 ? static_cast<double>(static_cast<float>(t.data<bf::bf16>()[i]))
                                      : static_cast<double>(t.data<float>()[i]);
}

/// Of a, on any device, from b on the host; both in the order of one format.
double relative_difference(const Tensor& there, const Tensor& b) {
    const Tensor a = there.to(bf::cpu_device);
    EXPECT_EQ(a.shape(), b.shape());
    EXPECT_EQ(a.format(), b.format());
    double worst = 0, size = 0.1;
    for (std::int64_t i = 0; i < a.numel(); ++i) {
        const double x = value_at(a, i), y = value_at(b, i);
        if (!std::isfinite(x) || !std::isfinite(y)) return std::numeric_limits<double>::infinity();
        worst = std::max(worst, std::abs(x - y));
        size = std::max(size, std::abs(y));
    }
    return worst / size;
}

/// Frees blocks full of NaN, so that memory handed out next shows every element that a kernel forgets to write.
void poison_cache() {
    std::vector<Tensor> blocks;
    for (std::int64_t n = 1; n <= (1 << 20); n = n + n / 16 + 1)
        for (int copies = 0; copies < 4; ++copies) blocks.push_back(bf::full({n}, std::nan("")));
}

}  // namespace

namespace bf::proof {
/// How GoogleTest names a row in its messages.
void PrintTo(const Case& c, std::ostream* out) { *out << c.op << " (" << c.note << ")"; }
}  // namespace bf::proof

namespace {

class OpCase : public ::testing::TestWithParam<Case> {};

TEST_P(OpCase, GradientMatchesCentralDifferences) {
    const Case& c = GetParam();
    if (!c.gradient) {  // an empty input: forward and backward run, and shapes are right
        const Result r = run(c, DType::f64);
        for (std::size_t i = 0; i < r.gradients.size(); ++i) {
            if (r.gradients[i].defined()) {
                EXPECT_EQ(r.gradients[i].shape(), c.inputs[i].shape);
            }
        }
        return;
    }
    const auto result = bf::gradcheck(c.f, draw_all(c), {.step = c.step});
    EXPECT_TRUE(result.ok) << result.message;
}

TEST_P(OpCase, SinglePrecisionAgreesWithDouble) {
    const Case& c = GetParam();
    const Result wide = run(c, DType::f64), narrow = run(c, DType::f32);
    EXPECT_EQ(narrow.y.dtype(), DType::f32);
    EXPECT_LE(relative_difference(narrow.y, wide.y), c.f32_tolerance);
    for (std::size_t i = 0; i < wide.gradients.size(); ++i) {
        if (!wide.gradients[i].defined()) continue;
        EXPECT_LE(relative_difference(narrow.gradients[i], wide.gradients[i]), c.f32_tolerance) << "input " << i;
    }
}

TEST_P(OpCase, GradientsAreAddedToWhatIsThere) {
    const Case& c = GetParam();
    const Result plain = run(c, DType::f64);
    std::vector<Tensor> start;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) start.push_back(draw(c.inputs[i], 50 + i));
    const std::vector<Tensor> before = [&] {
        std::vector<Tensor> copies;
        for (const Tensor& t : start) copies.push_back(t.clone());
        return copies;
    }();
    const Result added = run(c, DType::f64, start);
    for (std::size_t i = 0; i < plain.gradients.size(); ++i) {
        if (!plain.gradients[i].defined()) continue;
        for (std::int64_t k = 0; k < plain.gradients[i].numel(); ++k)
            ASSERT_NEAR(added.gradients[i].data<double>()[k],
                        before[i].data<double>()[k] + plain.gradients[i].data<double>()[k], 1e-9)
                << "input " << i << " element " << k;
        // the tensor that the caller handed in is shared, and so must not change
        EXPECT_EQ(relative_difference(start[i], before[i]), 0);
    }
}

TEST_P(OpCase, EveryElementIsWritten) {
    const Case& c = GetParam();
    for (DType dtype : {DType::f32, DType::f64}) {
        const Result clean = run(c, dtype);
        poison_cache();
        const Result poisoned = run(c, dtype);
        EXPECT_EQ(relative_difference(poisoned.y, clean.y), 0);
        for (std::size_t i = 0; i < clean.gradients.size(); ++i) {
            if (!clean.gradients[i].defined()) continue;
            EXPECT_EQ(relative_difference(poisoned.gradients[i], clean.gradients[i]), 0) << "input " << i;
        }
    }
}

TEST_P(OpCase, SameBitsOnAnyNumberOfThreads) {
    const Case& c = GetParam();
    const int threads = bf::cpu_pool().threads();
    bf::cpu_pool().resize(1);
    const Result one = run(c, DType::f32);
    bf::cpu_pool().resize(3);
    const Result three = run(c, DType::f32);
    bf::cpu_pool().resize(threads);
    EXPECT_EQ(relative_difference(three.y, one.y), 0);
    for (std::size_t i = 0; i < one.gradients.size(); ++i) {
        if (!one.gradients[i].defined()) continue;
        EXPECT_EQ(relative_difference(three.gradients[i], one.gradients[i]), 0);
    }
}

/// Outputs and gradients against those that are wanted, where there are any.
void expect_close(const Result& there, const Result& here, double tolerance) {
    EXPECT_LE(relative_difference(there.y, here.y), tolerance);
    for (std::size_t i = 0; i < here.gradients.size(); ++i) {
        ASSERT_EQ(there.gradients[i].defined(), here.gradients[i].defined()) << "input " << i;
        if (!here.gradients[i].defined()) continue;
        EXPECT_LE(relative_difference(there.gradients[i], here.gradients[i]), tolerance) << "input " << i;
    }
}

TEST_P(OpCase, CudaAgreesWithCpu) {
    if (const std::string reason = no_test_device(); !reason.empty()) GTEST_SKIP() << reason;
    RecordProperty("device", test_device_kind());
    const ExactDevice exact;
    const Case& c = GetParam();
    const std::vector<Tensor> inputs = draw_all(c, DType::f32);
    const Result there = run(c, on_device(inputs));
    EXPECT_EQ(there.y.device(), test_device);
    expect_close(there, run(c, inputs), c.device_tolerance);
}

/// The inputs of a row that is computed in bf16, and the same numbers in f32.
std::pair<std::vector<Tensor>, std::vector<Tensor>> draw_narrow(const Case& c) {
    std::vector<Tensor> narrow = draw_all(c, DType::f32), wide = narrow;
    for (std::size_t i = 0; i < narrow.size(); ++i) {
        if (c.bf16 == Bf16::first && i > 0) continue;
        if (c.bf16 == Bf16::like_first && narrow[i].shape() != narrow[0].shape()) continue;
        narrow[i] = bf::converted(narrow[i], DType::bf16, narrow[i].format());
        wide[i] = bf::converted(narrow[i], DType::f32, narrow[i].format());
    }
    return {narrow, wide};
}
/// The output is bf16, and gradients have the dtypes of their inputs.
void expect_narrow(const Result& r, const std::vector<Tensor>& inputs) {
    EXPECT_EQ(r.y.dtype(), DType::bf16);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (r.gradients[i].defined()) {
            EXPECT_EQ(r.gradients[i].dtype(), inputs[i].dtype()) << "input " << i;
        }
    }
}

/// Rows of ops that a device computes in bf16.
class Bf16Case : public ::testing::TestWithParam<Case> {};

TEST_P(Bf16Case, CudaAgreesWithCpu) {
    const Case& c = GetParam();
    if (const std::string reason = no_test_device(); !reason.empty()) GTEST_SKIP() << reason;
    RecordProperty("device", test_device_kind());
    const ExactDevice exact;
    const auto [narrow, wide] = draw_narrow(c);
    const Result there = run(c, on_device(narrow)), here = run(c, wide, {}, true);
    EXPECT_EQ(there.y.device(), test_device);
    expect_narrow(there, narrow);
    expect_close(there, here, c.bf16_tolerance);
}

// On the CPU in 16-bit storage and in f32, from the same numbers.
TEST_P(Bf16Case, AgreesWithF32OnTheCpu) {
    const Case& c = GetParam();
    const auto [narrow, wide] = draw_narrow(c);
    const Result stored = run(c, narrow), exact = run(c, wide, {}, true);
    expect_narrow(stored, narrow);
    expect_close(stored, exact, c.bf16_tolerance);
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
    std::string name = info.param.op + "_" + info.param.note + "_" + std::to_string(info.index);
    for (char& ch : name)
        if (!std::isalnum(static_cast<unsigned char>(ch))) ch = '_';
    return name;
}

std::vector<Case> bf16_cases() {
    std::vector<Case> rows;
    for (const Case& c : bf::proof::cases())
        if (c.bf16 != Bf16::none) rows.push_back(c);
    return rows;
}

INSTANTIATE_TEST_SUITE_P(Rows, OpCase, ::testing::ValuesIn(bf::proof::cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Rows, Bf16Case, ::testing::ValuesIn(bf16_cases()), case_name);

TEST(Table, EveryOpHasARow) {
    std::set<std::string> rows;
    for (const Case& c : bf::proof::cases()) rows.insert(c.op);
    std::set<std::string> wanted{"reshape",         "flatten",
                                 "to_format",       "cast",
                                 "gather_rows",     "dropout",
                                 "matmul",          "linear",
                                 "normalize_rows",  "softmax_cross_entropy",
                                 "conv2d",          "batch_norm_train",
                                 "batch_norm_eval", "prelu",
                                 "max_pool2d",      "avg_pool2d",
                                 "global_avg_pool", "contrastive_pairs",
                                 "mix_prototypes"};
#define BF_NAME(name, Functor) wanted.insert(#name);
    BF_UNARY_OPS(BF_NAME)
    BF_BINARY_OPS(BF_NAME)
    BF_REDUCE_OPS(BF_NAME)
#undef BF_NAME
    for (const std::string& op : wanted) EXPECT_TRUE(rows.count(op)) << op << " has no row in cases.cpp";
    for (const std::string& op : rows) EXPECT_TRUE(wanted.count(op)) << op << " is not in the list of ops";
}

}  // namespace

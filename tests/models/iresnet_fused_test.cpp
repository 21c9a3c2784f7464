// An IResNet whose batch norms do the PReLU and the sum behind them against the same network op by op.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "bf/models/iresnet.hpp"
#include "bf/ops/reduce.hpp"

namespace {

using bf::DType;
using bf::Tensor;
using bf::Var;

struct Pass {
    std::shared_ptr<bf::IResNet> net;
    Tensor trained, evaluated;

    /// A training pass with its gradients, then an evaluation with the running statistics that it left.
    Pass(bool fused, DType dtype)
        : net(bf::iresnet("iresnet_small",
                          {.embedding_size = 32, .image_size = 32, .seed = 4, .dtype = dtype, .fused = fused})) {
        bf::Init init(5);
        const Var x(bf::converted(init.normal({4, 3, 32, 32}, 1), dtype, bf::Format::plain));
        // PReLU slopes of both signs and norms off their start, so that nothing cancels
        for (const auto& p : net->parameters())
            if (p.norm_or_bias && p.trainable)
                bf::visit_real(dtype, "test", [&]<class T>() {
                    T* v = p.var.value().data<T>();
                    for (std::int64_t i = 0; i < p.var.value().numel(); ++i)
                        v[i] += static_cast<T>(0.4 * std::sin(3.0 * static_cast<double>(i)));
                });
        const Var e = (*net)(x);
        trained = e.value();
        bf::backward(bf::mean(bf::mul(e, bf::square(e))));
        net->eval();
        const bf::NoGrad no_grad;
        evaluated = (*net)(x).value();
    }
};

double relative(const Tensor& got, const Tensor& want) {
    double worst = 0, largest = 0;
    bf::visit_real(want.dtype(), "test", [&]<class T>() {
        for (std::int64_t i = 0; i < want.numel(); ++i) {
            const double w = static_cast<double>(want.data<T>()[i]);
            worst = std::max(worst, std::abs(static_cast<double>(got.data<T>()[i]) - w));
            largest = std::max(largest, std::abs(w));
        }
    });
    return largest > 0 ? worst / largest : worst;
}
bool same_bits(const Tensor& a, const Tensor& b) {
    return a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

TEST(IResNetFused, EqualsTheNetworkOpByOp) {
    for (const DType dtype : {DType::f64, DType::f32}) {
        const Pass fused(true, dtype), plain(false, dtype);
        EXPECT_TRUE(same_bits(fused.trained, plain.trained)) << relative(fused.trained, plain.trained);
        EXPECT_TRUE(same_bits(fused.evaluated, plain.evaluated)) << relative(fused.evaluated, plain.evaluated);
        const auto a = fused.net->buffers(), b = plain.net->buffers();
        ASSERT_EQ(a.size(), b.size());
        for (std::size_t i = 0; i < a.size(); ++i) {
            EXPECT_EQ(a[i].first, b[i].first);
            EXPECT_TRUE(same_bits(a[i].second, b[i].second)) << a[i].first;
        }
        const auto p = fused.net->parameters(), q = plain.net->parameters();
        ASSERT_EQ(p.size(), q.size());
        for (std::size_t i = 0; i < p.size(); ++i) {
            EXPECT_EQ(p[i].name, q[i].name);
            ASSERT_EQ(p[i].var.grad().defined(), q[i].var.grad().defined()) << p[i].name;
            if (!q[i].var.grad().defined()) continue;
            EXPECT_LE(relative(p[i].var.grad(), q[i].var.grad()), dtype == DType::f64 ? 1e-10 : 1e-3) << p[i].name;
        }
    }
}

TEST(IResNetFused, HoldsLessAfterTheForwardPass) {
    const auto held = [](bool fused) {
        const auto net = bf::iresnet("iresnet_small", {.embedding_size = 32, .image_size = 32, .fused = fused});
        bf::Init init(5);
        const Var x(init.normal({8, 3, 32, 32}, 1));
        const std::size_t before = bf::cpu_allocator().stats().in_use;
        const Var e = (*net)(x);
        return bf::cpu_allocator().stats().in_use - before;
    };
    EXPECT_LT(static_cast<double>(held(true)), 0.9 * static_cast<double>(held(false)));
}

}  // namespace

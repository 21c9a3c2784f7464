#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bf/ops/margin_softmax.hpp"
#include "bf/optim/broadface.hpp"
#include "golden.hpp"

// The golden vectors of margins and of BroadFace (broadface_golden.py), on any device.

namespace broadface_golden {

inline const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/optim/broadface_golden.txt");
    return g;
}
inline double at(const bf::Tensor& t, std::int64_t i) {
    return t.dtype() == bf::DType::f64 ? t.data<double>()[i] : static_cast<double>(t.data<float>()[i]);
}
inline void expect_near(const bf::Tensor& there, const std::vector<double>& want, double tolerance,
                        const std::string& what) {
    const bf::Tensor got = there.to(bf::cpu_device);
    ASSERT_EQ(static_cast<std::size_t>(got.numel()), want.size()) << what;
    for (std::int64_t i = 0; i < got.numel(); ++i) {
        const double w = want[static_cast<std::size_t>(i)];
        ASSERT_NEAR(at(got, i), w, tolerance * std::max(1.0, std::abs(w))) << what << " element " << i;
    }
}

inline bf::Margin head(const std::string& name, bool exact = true) {
    bf::Margin m = name == "softmax"    ? bf::normalized_softmax(16)
                   : name == "arcface"  ? bf::arcface(16, 0.5)
                   : name == "cosface"  ? bf::cosface(16, 0.4)
                   : name == "combined" ? bf::combined_margin(16, 0.9, 0.4, 0.15)
                                        : bf::sphereface(16, 3);
    m.gradient = exact ? bf::MarginGradient::exact : bf::MarginGradient::straight_through;
    return m;
}

/// A leaf on the device.
inline bf::Var leaf(const bf::Tensor& host, bf::Device device) { return bf::Var::leaf(host.to(device)); }

/// Losses and gradients of every margin.
inline void run_golden_margins(bf::Device device) {
    for (const char* name : {"softmax", "arcface", "cosface", "combined", "sphereface"})
        for (const bool exact : {true, false})
            for (const bf::DType dtype : {bf::DType::f64, bf::DType::f32}) {
                const std::string tag = std::string(name) + (exact ? ".exact" : ".straight");
                const auto n = static_cast<std::int64_t>(golden()[tag + ".rows"][0]);
                const bf::Var e = leaf(golden().tensor("margin.x", {6, 5}, dtype).rows(0, n).clone(), device),
                              w = leaf(golden().tensor("margin.w", {7, 5}, dtype), device);
                const auto loss = bf::margin_softmax(e, w, golden().labels("margin.y").rows(0, n).to(device),
                                                     {.margin = head(name, exact)});
                bf::backward(loss.loss);
                // f64: the slopes of the golden file are numerical derivatives, good to about 1e-9
                const double tolerance = dtype == bf::DType::f64 ? 2e-8 : 2e-5;
                EXPECT_NEAR(loss.loss.value().item(), golden()[tag + ".loss"][0],
                            dtype == bf::DType::f64 ? 1e-11 : 1e-5)
                    << tag;
                expect_near(e.grad(), golden()[tag + ".dx"], tolerance, tag + ".dx");
                expect_near(w.grad(), golden()[tag + ".dw"], tolerance, tag + ".dw");
            }
}

/// Margins whose angle passes pi.
inline void run_golden_beyond_the_guard(bf::Device device) {
    const std::pair<const char*, bf::Margin> heads[] = {{"arcface", bf::arcface(16, 0.5)},
                                                        {"combined", bf::combined_margin(16, 0.9, 0.4, 0.15)},
                                                        {"wide", bf::combined_margin(16, 1.35, 0.1, 0.05)}};
    for (auto [name, margin] : heads)
        for (const bool exact : {true, false}) {
            const std::string tag = std::string("obtuse.") + name + (exact ? ".exact" : ".straight");
            margin.gradient = exact ? bf::MarginGradient::exact : bf::MarginGradient::straight_through;
            const bf::Var e = leaf(golden().tensor("obtuse.x", {3, 5}), device),
                          w = leaf(golden().tensor("obtuse.w", {4, 5}), device);
            const auto loss = bf::margin_softmax(e, w, golden().labels("obtuse.y").to(device), {.margin = margin});
            bf::backward(loss.loss);
            EXPECT_NEAR(loss.loss.value().item(), golden()[tag + ".loss"][0], 1e-10) << tag;
            expect_near(e.grad(), golden()[tag + ".dx"], 2e-7, tag + ".dx");
            expect_near(w.grad(), golden()[tag + ".dw"], 2e-7, tag + ".dw");
        }
}

/// Seven steps of BroadFace: W by plain SGD at 0.5, queue of 10, batches of 4; with and without compensation.
inline void run_golden_steps(bf::DType dtype, bf::Device device) {
    const double tolerance = dtype == bf::DType::f64 ? 1e-8 : 1e-4;
    for (const char* name : {"arcface", "cosface"})
        for (const bool compensate : {true, false}) {
            const std::string tag = std::string("broadface.") + name + (compensate ? ".comp" : ".plain");
            const bf::Var w = leaf(golden().tensor(tag + ".w0", {8, 6}, dtype), device);
            bf::BroadFace broad({.queue = 10, .compensate = compensate}, 6, dtype, device);
            for (int step = 0; step < 7; ++step) {
                const std::string s = tag + "." + std::to_string(step);
                const bf::Var e = leaf(golden().tensor(s + ".e", {4, 6}, dtype), device);
                const bf::Tensor y = golden().labels(s + ".y").to(device);
                const auto number = static_cast<std::uint64_t>(step);
                const auto loss =
                    bf::margin_softmax(e, w, y, {.margin = head(name), .memory = broad.memory(w.value(), number)});
                w.zero_grad();
                bf::backward(loss.loss);
                broad.push(e.value(), y, w.value(), number);
                bf::kernels(device).axpby(bf::context(device), -0.5, w.grad(), 1, w.value());
                EXPECT_NEAR(loss.loss.value().item(), golden()[s + ".enc"][0], tolerance * 10) << s;
                EXPECT_NEAR(loss.classifier_loss.item(), golden()[s + ".cls"][0], tolerance * 10) << s;
                expect_near(e.grad(), golden()[s + ".dx"], tolerance, s + ".dx");
                expect_near(w.value(), golden()[s + ".w"], tolerance, s + ".w");
            }
            EXPECT_EQ(broad.size(), 10);
            EXPECT_EQ(broad.queue().sequence(), 28);
        }
}

}  // namespace broadface_golden

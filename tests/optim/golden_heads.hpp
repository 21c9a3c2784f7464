#pragma once
#include <utility>

#include "golden_steps.hpp"

// The golden vectors of heads that set a margin for each row (margin_head_golden.py), on any device.

namespace golden_heads {

inline const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/optim/margin_head_golden.txt");
    return g;
}

/// A head of the file: its margin and rule.
inline std::pair<bf::Margin, bf::HeadRule> head_named(const std::string& name) {
    using bf::HeadKind;
    if (name == "adaface") return {bf::adaface(16), {.kind = HeadKind::adaface, .t_alpha = 0.3}};
    if (name == "elastic_arc") return {bf::arcface(16), {.kind = HeadKind::elasticface, .seed = 77}};
    if (name == "elastic_cos") return {bf::cosface(16, 0.35), {.kind = HeadKind::elasticface, .seed = 77}};
    bf::Margin margin = bf::arcface(16);
    margin.easy = name != "magface_hard";
    return {margin, {.kind = HeadKind::magface, .detached = name == "magface_detached"}};
}
inline const std::vector<std::string> names{"adaface", "elastic_arc",  "elastic_cos",
                                            "magface", "magface_hard", "magface_detached"};

/// Five steps of each head with BroadFace: W by plain SGD at 0.5, queue of 8, batches of 5.
inline void run_golden_heads(bf::DType dtype, bf::Device device) {
    using broadface_golden::expect_near;
    const double tolerance = dtype == bf::DType::f64 ? 1e-9 : 1e-4;
    for (const std::string& name : names) {
        const auto [margin, rule] = head_named(name);
        const bf::MarginHead head(rule, device);
        const bf::Var w = broadface_golden::leaf(golden().tensor(name + ".w0", {7, 6}, dtype), device);
        bf::BroadFace broad({.queue = 8}, 6, dtype, device);
        for (int step = 0; step < 5; ++step) {
            const std::string s = name + "." + std::to_string(step);
            const bf::Var e = broadface_golden::leaf(golden().tensor(s + ".e", {5, 6}, dtype), device);
            const bf::Tensor y = golden().labels(s + ".y").to(device);
            const auto number = static_cast<std::uint64_t>(step);
            const auto loss = bf::margin_softmax(
                e, w, y, {.margin = margin, .memory = broad.memory(w.value(), number), .head = &head});
            w.zero_grad();
            bf::backward(loss.loss);
            broad.push(e.value(), y, w.value(), number);
            bf::kernels(device).axpby(bf::context(device), -0.5, w.grad(), 1, w.value());
            EXPECT_NEAR(loss.loss.value().item(), golden()[s + ".enc"][0], tolerance * 10) << s;
            EXPECT_NEAR(loss.classifier_loss.item(), golden()[s + ".cls"][0], tolerance * 10) << s;
            expect_near(e.grad(), golden()[s + ".dx"], tolerance, s + ".dx");
            expect_near(w.value(), golden()[s + ".w"], tolerance, s + ".w");
            if (name == "adaface")
                expect_near(head.save_state().at("head.norms"), golden()[s + ".norms"],
                            dtype == bf::DType::f64 ? 1e-12 : 1e-5, s + ".norms");
        }
    }
}

}  // namespace golden_heads

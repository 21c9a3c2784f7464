#pragma once
#include "bf/optim/vpl.hpp"
#include "bf/optim/xbm.hpp"
#include "golden_steps.hpp"

// The golden vectors of XBM and VPL (memory_golden.py), on any device.

namespace memory_golden {

using broadface_golden::expect_near;

inline const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/optim/memory_golden.txt");
    return g;
}
/// W by plain SGD at 0.5.
inline void update(const bf::Var& w) {
    const bf::Device device = w.value().device();
    bf::kernels(device).axpby(bf::context(device), -0.5, w.grad(), 1, w.value());
    w.zero_grad();
}

/// Seven steps of XBM: a queue of 10, batches of 4, from step 2 on; with and without compensation.
inline void run_golden_xbm(bf::DType dtype, bf::Device device) {
    const double tolerance = dtype == bf::DType::f64 ? 1e-9 : 1e-4;
    for (const bool compensate : {false, true}) {
        const std::string tag = std::string("xbm.") + (compensate ? "comp" : "plain");
        const bf::Var w = bf::Var::leaf(golden().tensor(tag + ".w0", {8, 6}, dtype).to(device));
        bf::Xbm xbm({.queue = 10, .weight = 0.7, .margin = 0.4, .start_step = 2, .compensate = compensate}, 6, dtype,
                    device);
        for (int step = 0; step < 7; ++step) {
            const std::string s = tag + "." + std::to_string(step);
            const bf::Var e = bf::Var::leaf(golden().tensor(s + ".e", {4, 6}, dtype).to(device));
            const bf::Tensor y = golden().labels(s + ".y").to(device);
            const auto number = static_cast<std::uint64_t>(step);
            const auto loss = bf::margin_softmax(e, w, y, {.margin = broadface_golden::head("arcface")});
            const bf::Var extra = xbm.loss(e, y, w.value(), number);
            EXPECT_EQ(extra.value().defined(), step >= 2);
            EXPECT_NEAR(loss.loss.value().item(), golden()[s + ".loss"][0], tolerance * 10) << s;
            if (step >= 2) {
                EXPECT_NEAR(extra.value().item(), golden()[s + ".extra"][0], tolerance * 10) << s;
            }
            bf::backward(step >= 2 ? loss.loss + extra : loss.loss);
            xbm.push(e.value(), y, w.value(), number);
            update(w);
            expect_near(e.grad(), golden()[s + ".dx"], tolerance, s + ".dx");
            expect_near(w.value(), golden()[s + ".w"], tolerance, s + ".w");
        }
        EXPECT_EQ(xbm.rows().size(), 10);
    }
}

/// Seven steps of VPL: rows of at most 2 steps, batches of 4, from step 2 on; a queue that holds them all, and one that
/// does not.
inline void run_golden_vpl(bf::DType dtype, bf::Device device) {
    const double tolerance = dtype == bf::DType::f64 ? 1e-9 : 1e-4;
    for (const std::int64_t rows : {20, 6}) {
        const std::string tag = "vpl." + std::to_string(rows);
        const bf::Var w = bf::Var::leaf(golden().tensor(tag + ".w0", {8, 6}, dtype).to(device));
        bf::Vpl vpl({.queue = rows, .lambda = 0.3, .age_limit = 2, .start_step = 2}, 6, dtype, device);
        for (int step = 0; step < 7; ++step) {
            const std::string s = tag + "." + std::to_string(step);
            const bf::Var e = bf::Var::leaf(golden().tensor(s + ".e", {4, 6}, dtype).to(device));
            const bf::Tensor y = golden().labels(s + ".y").to(device);
            const auto number = static_cast<std::uint64_t>(step);
            const auto loss =
                bf::margin_softmax(e, vpl.classifier(w, number), y, {.margin = broadface_golden::head("arcface")});
            bf::backward(loss.loss);
            vpl.push(e.value(), y, w.value(), number);
            EXPECT_NEAR(loss.loss.value().item(), golden()[s + ".loss"][0], tolerance * 10) << s;
            expect_near(e.grad(), golden()[s + ".dx"], tolerance, s + ".dx");
            expect_near(w.grad(), golden()[s + ".dw"], tolerance, s + ".dw");
            update(w);
            expect_near(w.value(), golden()[s + ".w"], tolerance, s + ".w");
        }
    }
}

}  // namespace memory_golden

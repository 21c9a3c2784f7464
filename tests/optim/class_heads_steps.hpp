#pragma once
#include <gtest/gtest.h>

#include <string>

#include "golden_steps.hpp"

// The golden vectors of heads that change the logits of other classes (class_heads_golden.py), on any device.

namespace class_heads_golden {

using broadface_golden::expect_near;
using broadface_golden::leaf;

inline const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/optim/class_heads_golden.txt");
    return g;
}

/// Results of a step, whose W then moves by plain SGD at 0.5.
inline void expect_step(const std::string& tag, const bf::MarginSoftmaxResult& r, const bf::Var& e, const bf::Var& w,
                        double tolerance) {
    bf::kernels(w.value().device()).axpby(bf::context(w.value().device()), -0.5, w.grad(), 1, w.value());
    EXPECT_NEAR(r.loss.value().item(), golden()[tag + ".enc"][0], tolerance * 10) << tag;
    EXPECT_NEAR(r.classifier_loss.item(), golden()[tag + ".cls"][0], tolerance * 10) << tag;
    EXPECT_EQ(r.correct.item(), golden()[tag + ".correct"][0]) << tag;
    expect_near(e.grad(), golden()[tag + ".dx"], tolerance, tag + ".dx");
    expect_near(w.value(), golden()[tag + ".w"], tolerance, tag + ".w");
}

/// Six steps of CurricularFace with memory rows, from two values of t.
inline void run_curricular_steps(bf::DType dtype, bf::Device device) {
    const double tolerance = dtype == bf::DType::f64 ? 1e-10 : 1e-4;
    for (const char* start : {"0.0", "0.6"}) {
        const std::string name = std::string("curricular.") + start;
        const bf::Var w = leaf(golden().tensor(name + ".w0", {9, 6}, dtype), device);
        const bf::Tensor t = bf::full({}, std::stod(start), dtype, device);
        for (int step = 0; step < 6; ++step) {
            const std::string tag = name + "." + std::to_string(step);
            const bf::Var e = leaf(golden().tensor(tag + ".e", {5, 6}, dtype), device);
            const auto r = bf::margin_softmax(e, w, golden().labels(tag + ".y").to(device),
                                              {.margin = bf::arcface(16),
                                               .memory = {golden().tensor(tag + ".memory", {4, 6}, dtype).to(device),
                                                          golden().labels(tag + ".memory_y").to(device), 4},
                                               .curricular_t = t});
            w.zero_grad();
            bf::backward(r.loss);
            EXPECT_NEAR(t.item(), golden()[tag + ".t"][0], dtype == bf::DType::f64 ? 1e-14 : 1e-6) << tag;
            expect_step(tag, r, e, w, tolerance);
        }
    }
}

/// Seven steps of sub-center ArcFace with BroadFace: a queue of 10, batches of 4; two and three centers a class.
inline void run_center_steps(bf::DType dtype, bf::Device device) {
    const double tolerance = dtype == bf::DType::f64 ? 1e-10 : 1e-4;
    for (const std::int64_t centers : {2, 3}) {
        const std::string name = "centers." + std::to_string(centers);
        const bf::Var w = leaf(golden().tensor(name + ".w0", {5 * centers, 6}, dtype), device);
        bf::BroadFace broad({.queue = 10, .centers = centers}, 6, dtype, device);
        for (int step = 0; step < 7; ++step) {
            const std::string tag = name + "." + std::to_string(step);
            const auto number = static_cast<std::uint64_t>(step);
            const bf::Var e = leaf(golden().tensor(tag + ".e", {4, 6}, dtype), device);
            const auto r = bf::margin_softmax(
                e, w, golden().labels(tag + ".y").to(device),
                {.margin = bf::arcface(16), .memory = broad.memory(w.value(), number), .centers = centers});
            w.zero_grad();
            bf::backward(r.loss);
            broad.push(e.value(), r.target_rows, w.value(), number);
            const bf::Tensor rows = r.target_rows.to(bf::cpu_device), want = golden().labels(tag + ".rows");
            for (int i = 0; i < 4; ++i) EXPECT_EQ(rows.data<std::int64_t>()[i], want.data<std::int64_t>()[i]) << tag;
            expect_step(tag, r, e, w, tolerance);
        }
    }
}

}  // namespace class_heads_golden

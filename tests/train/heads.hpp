#pragma once
#include <string>
#include <vector>

#include "tiny_run.hpp"

// The tiny run with each head that is more than a margin.

namespace tiny_run {

struct Head {
    std::string name;
    bf::Margin margin;
    bf::HeadRule rule;
};

/// Constants fit norms of about 3, which embeddings of 8 values behind a batch norm have.
inline std::vector<Head> heads() {
    using bf::HeadKind;
    bf::Margin easy = bf::arcface(8);
    easy.easy = true;
    const bf::HeadRule mag{.kind = HeadKind::magface, .l_a = 1, .u_a = 8, .l_m = 0.1, .u_m = 0.4, .lambda_g = 2};
    bf::HeadRule detached = mag;
    detached.detached = true;
    return {{"adaface", bf::adaface(8, 0.2), {.kind = HeadKind::adaface, .t_alpha = 0.3}},
            {"elastic_arc", bf::arcface(8, 0.3), {.kind = HeadKind::elasticface, .seed = 3}},
            {"elastic_cos", bf::cosface(8, 0.2), {.kind = HeadKind::elasticface, .seed = 3}},
            {"curricularface", bf::arcface(8, 0.3), {.kind = HeadKind::curricularface}},
            {"centers", bf::arcface(8, 0.3), {.centers = 3}},
            {"magface", easy, mag},
            {"magface_detached", bf::arcface(8), detached}};
}

/// A trainer with a queue and a head, and everything it wants.
struct HeadRun : Parts {
    explicit HeadRun(const Head& h, bf::Device device = bf::cpu_device, bool graph = false)
        : Parts(0, device, bf::DType::f32, h.rule.centers),
          head(h.rule, device),
          broad({.queue = 20, .centers = h.rule.centers}, dim, bf::DType::f32, device),
          trainer(*net, w, sgd,
                  {.margin = h.margin,
                   .head = &head,
                   .schedule = {.kind = bf::ScheduleKind::constant, .lr = 0.002},
                   .want_gradient_norm = true,
                   .graph = graph},
                  broad) {}
    bf::MarginHead head;
    bf::BroadFace broad;
    bf::Trainer<bf::BroadFace> trainer;
};

}  // namespace tiny_run

#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

enum class ScheduleKind { constant, step, poly, cosine };

/// The learning rate as a function of the optimizer step.
struct Schedule {
    ScheduleKind kind = ScheduleKind::poly;
    double lr = 0.1;
    std::uint64_t warmup_steps = 0;  ///< linear: lr t / warmup (InsightFace starts at 0)
    std::uint64_t total_steps = 1;
    double power = 1;                         ///< of poly
    std::vector<std::uint64_t> milestones{};  ///< of step: lr *= gamma from each on
    double gamma = 0.1;

    /// Learning rate of step t = 0, 1, ... .
    double operator()(std::uint64_t t) const {
        if (t < warmup_steps) return lr * static_cast<double>(t) / static_cast<double>(warmup_steps);
        const double span =
            static_cast<double>(std::max<std::uint64_t>(1, total_steps - std::min(warmup_steps, total_steps)));
        const double done = std::min(1.0, static_cast<double>(t - warmup_steps) / span);
        switch (kind) {
            case ScheduleKind::constant: return lr;
            case ScheduleKind::poly: return lr * std::pow(1 - done, power);
            case ScheduleKind::cosine: return lr * 0.5 * (1 + std::cos(3.14159265358979323846 * done));
            case ScheduleKind::step: {
                const auto passed = std::count_if(milestones.begin(), milestones.end(), [t](auto m) { return t >= m; });
                return lr * std::pow(gamma, static_cast<double>(passed));
            }
        }
        return lr;
    }
};

}  // namespace bf

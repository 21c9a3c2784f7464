#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

namespace bf::math {

/// SGD with momentum as PyTorch and the InsightFace recipes define it: d = g + wd w; v = mu v + d;
/// w -= lr (nesterov ? d + mu v : v). `factor` multiplies the gradient (clipping), `decay` is the weight decay.
struct SgdUpdate {
    double lr = 0.1, momentum = 0.9;
    bool nesterov = false;

    template <class T>
    BF_HD void operator()(T g, T factor, T decay, T& w, T& velocity, T&) const {
        const T d = factor * g + decay * w;
        velocity = static_cast<T>(momentum) * velocity + d;
        w -= static_cast<T>(lr) * (nesterov ? d + static_cast<T>(momentum) * velocity : velocity);
    }
};

/// AdamW (Loshchilov, Hutter 2019, algorithm 2): decay apart from the moments; coupled: Adam with its decay in the
/// gradient (Kingma, Ba 2015; torch.optim.Adam). correction1 = 1 - beta1^t,
/// correction2 = 1 - beta2^t.
struct AdamWUpdate {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double correction1 = 1, correction2 = 1;
    bool coupled = false;

    template <class T>
    BF_HD void operator()(T g, T factor, T decay, T& w, T& m, T& v) const {
        g *= factor;
        if (coupled) g += decay * w;
        m = static_cast<T>(beta1) * m + static_cast<T>(1 - beta1) * g;
        v = static_cast<T>(beta2) * v + static_cast<T>(1 - beta2) * g * g;
        if (!coupled) w -= static_cast<T>(lr) * decay * w;
        w -= static_cast<T>(lr / correction1) * m /
             (std::sqrt(v / static_cast<T>(correction2)) + static_cast<T>(epsilon));
    }
};

/// What a group's gradients are multiplied by so that their norm keeps the global limit and the group's own (0: none).
/// Not a number where the norms are not finite: an update with such a factor writes nothing.
BF_HD double clip_factor(double total_norm, double global_limit, double group_norm, double group_limit) {
    if (!(total_norm < HUGE_VAL)) return total_norm - total_norm;  // inf - inf, or not a number already
    const double global = global_limit > 0 && total_norm > global_limit ? global_limit / total_norm : 1;
    return group_limit > 0 && group_norm * global > group_limit ? group_limit / group_norm : global;
}

}  // namespace bf::math

#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

namespace bf::math {

/// SGD with momentum as PyTorch and the InsightFace recipes define it: d = g + wd w; v = mu v + d;
/// w -= lr (nesterov ? d + mu v : v). `scale` multiplies the gradient (clipping).
struct SgdUpdate {
    double lr = 0.1, momentum = 0.9, weight_decay = 0, scale = 1;
    bool nesterov = false;

    template <class T>
    BF_HD void operator()(T g, T& w, T& velocity) const {
        const T d = static_cast<T>(scale) * g + static_cast<T>(weight_decay) * w;
        velocity = static_cast<T>(momentum) * velocity + d;
        w -= static_cast<T>(lr) * (nesterov ? d + static_cast<T>(momentum) * velocity : velocity);
    }
};

/// AdamW (Loshchilov, Hutter 2019, algorithm 2): decay apart from the moments. correction1 = 1 - beta1^t,
/// correction2 = 1 - beta2^t.
struct AdamWUpdate {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0, scale = 1;
    double correction1 = 1, correction2 = 1;

    template <class T>
    BF_HD void operator()(T g, T& w, T& m, T& v) const {
        g *= static_cast<T>(scale);
        m = static_cast<T>(beta1) * m + static_cast<T>(1 - beta1) * g;
        v = static_cast<T>(beta2) * v + static_cast<T>(1 - beta2) * g * g;
        w -= static_cast<T>(lr * weight_decay) * w;
        w -= static_cast<T>(lr / correction1) * m /
             (std::sqrt(v / static_cast<T>(correction2)) + static_cast<T>(epsilon));
    }
};

}  // namespace bf::math

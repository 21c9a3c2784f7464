#pragma once
#include "bf/core/tensor.hpp"

namespace bf {

/// One parameter of a multi-tensor update: g is read, the rest is updated in place.
struct UpdateItem {
    Tensor g, w;
    Tensor first, second;  ///< moments; `second` is undefined for rules with one
    double lr_scale = 1, weight_decay = 0;
    int group = 0;  ///< place of its factor
};

/// Gradient-norm limits of the groups of an optimizer; 0: no limit.
struct ClipLimits {
    double global = 0;
    std::vector<double> group;
};

}  // namespace bf

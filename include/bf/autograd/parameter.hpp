#pragma once
#include <map>
#include <string>
#include <vector>

#include "bf/autograd/var.hpp"

namespace bf {

/// A named tensor that an optimizer updates.
struct Parameter {
    std::string name;
    Var var;
    bool trainable = true;      ///< false: kept at its value, but part of the network and its files
    bool norm_or_bias = false;  ///< batch-norm weights, PReLU slopes and biases: often kept from weight decay
};

/// Named tensors, as checkpoints hold them.
using StateDict = std::map<std::string, Tensor>;

/// Copies `from` into the named tensor of a module or optimizer, after checking that shapes agree.
inline void load_tensor(const StateDict& state, const std::string& name, const Tensor& into) {
    const auto it = state.find(name);
    BF_CHECK_DATA(it != state.end(), "load", "tensor missing: ", name, "; want ", into.str());
    BF_CHECK_DATA(it->second.shape() == into.shape(), "load", "shape of ", name, " differs; got ", it->second.str(),
                  ", want ", into.str());
    kernels(into.device()).convert(context(into.device()), it->second.to(into.device()), into);
}

}  // namespace bf

#pragma once
#include "bf/nn/init.hpp"
#include "bf/nn/module.hpp"
#include "bf/ops/conv.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/norm.hpp"
#include "bf/ops/pointwise.hpp"

namespace bf {

struct Conv2dLayerOptions {
    std::int64_t in = 0, out = 0, kernel = 3, stride = 1, pad = 1, groups = 1;
    double init_std = 0;  ///< 0: Kaiming normal over the fan out
};

/// Convolution without bias: parameter "weight" [out, in / groups, kernel, kernel].
class Conv2d : public Module {
  public:
    Conv2d(const Conv2dLayerOptions& o, Init& init)
        : options_{.stride = o.stride, .pad = o.pad, .groups = o.groups},
          weight_(add_parameter("weight", init.normal({o.out, o.in / o.groups, o.kernel, o.kernel}, deviation(o)))) {}
    Var forward(const Var& x) override { return conv2d(x, weight_, options_); }

  private:
    static double deviation(const Conv2dLayerOptions& o) {
        BF_CHECK(o.in > 0 && o.out > 0 && o.kernel > 0 && o.groups > 0 && o.in % o.groups == 0, "Conv2d",
                 "options; got in ", o.in, ", out ", o.out, ", kernel ", o.kernel, ", groups ", o.groups);
        if (o.init_std > 0) return o.init_std;
        return std::sqrt(2.0 / static_cast<double>(o.out / o.groups * o.kernel * o.kernel));
    }
    Conv2dOptions options_;
    Var weight_;
};

struct LinearOptions {
    std::int64_t in = 0, out = 0;
    bool bias = true;
    double init_std = 0;  ///< of a normal weight; 0: uniform
};

/// y = x W^T + b: parameters "weight" [out, in] and "bias" [out], uniform in +-1/sqrt(in) as PyTorch starts them.
class Linear : public Module {
  public:
    Linear(const LinearOptions& o, Init& init) {
        BF_CHECK(o.in > 0 && o.out > 0, "Linear", "options; got in ", o.in, ", out ", o.out);
        const double bound = 1 / std::sqrt(static_cast<double>(o.in));
        const Shape shape{o.out, o.in};
        weight_ = add_parameter("weight", o.init_std > 0 ? init.normal(shape, o.init_std) : init.uniform(shape, bound));
        if (o.bias) bias_ = add_parameter("bias", init.uniform({o.out}, bound), true);
    }
    Var forward(const Var& x) override { return linear(x, weight_, bias_); }

  private:
    Var weight_, bias_;
};

struct BatchNormOptions {
    std::int64_t channels = 0;
    double epsilon = 1e-5, momentum = 0.1;
    bool train_weight = true;  ///< false: the weight stays at 1
};

/// Batch norm over [M, C] or [N, C, H, W]: "weight", "bias", "running_mean", "running_var", all [C].
class BatchNorm : public Module {
  public:
    BatchNorm(const BatchNormOptions& o, Init& init)
        : options_(o),
          weight_(add_parameter("weight", init.constant({o.channels}, 1), true, o.train_weight)),
          bias_(add_parameter("bias", init.constant({o.channels}, 0), true)),
          running_mean_(add_buffer("running_mean", init.constant({o.channels}, 0))),
          running_var_(add_buffer("running_var", init.constant({o.channels}, 1))) {}
    Var forward(const Var& x) override { return forward(x, {}); }
    /// The layer and, in the same pass, a PReLU with the given slope or the sum with a residual.
    Var forward(const Var& x, const BatchNormFusion& fusion) const {
        if (!training())
            return batch_norm_eval(x, weight_, bias_, running_mean_, running_var_, options_.epsilon, fusion);
        const bool move = !recomputing();  // the statistics move once a forward pass
        return batch_norm_train(x, weight_, bias_, move ? running_mean_ : Tensor(), move ? running_var_ : Tensor(),
                                options_.momentum, options_.epsilon, fusion);
    }

  private:
    BatchNormOptions options_;
    Var weight_, bias_;
    Tensor running_mean_, running_var_;
};

/// PReLU with one slope a channel, 0.25 at the start: "weight" [C].
class PRelu : public Module {
  public:
    PRelu(std::int64_t channels, Init& init)
        : weight_(add_parameter("weight", init.constant({channels}, 0.25), true)) {}
    Var forward(const Var& x) override { return prelu(x, weight_); }
    const Var& weight() const { return weight_; }

  private:
    Var weight_;
};

/// Dropout in training mode; the mask of a forward pass is a function of (seed, Module::step()).
class Dropout : public Module {
  public:
    Dropout(double p, std::uint64_t seed) : p_(p), seed_(seed) {}
    Var forward(const Var& x) override { return training() ? dropout(x, p_, seed_, step()) : x; }

  protected:
    bool replays() const override { return p_ == 0; }  // a graph would repeat one mask

  private:
    double p_;
    std::uint64_t seed_;
};

}  // namespace bf

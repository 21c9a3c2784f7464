#pragma once
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "bf/autograd/parameter.hpp"

namespace bf {

/// Parameters that share rules.
struct ParameterGroup {
    std::vector<Parameter> parameters;
    double lr_scale = 1;  ///< times the step's learning rate
    double weight_decay = 0;
    bool decay_norm_and_bias = true;  ///< false: batch-norm weights, PReLU slopes and biases are not decayed
    double clip_norm = 0;             ///< largest gradient norm of the group; 0: no limit
};

/// What optimizers share: groups, clipping, zero_grad. Gradients are read, never written: clipping is a factor that
/// the update rule applies.
class Optimizer {
  public:
    explicit Optimizer(std::vector<ParameterGroup> groups, double clip_norm = 0)
        : groups_(std::move(groups)), clip_norm_(clip_norm) {
        std::set<std::string> names;  // moments are kept by name
        for (const ParameterGroup& group : groups_)
            for (const Parameter& p : group.parameters)
                BF_CHECK(names.insert(p.name).second, "optimizer", "two parameters have the name ", p.name,
                         "; hint: put a prefix before the names of one network");
    }
    virtual ~Optimizer() = default;
    Optimizer(const Optimizer&) = delete;  // a copy would share the moments
    Optimizer& operator=(const Optimizer&) = delete;

    /// One update with the given learning rate: prepare(), then apply().
    Tensor step(double lr, bool want_norm = false) {
        const Tensor norm = prepare(want_norm);
        apply(lr);
        return norm;
    }
    /// Looks at the gradients and settles how they are clipped; changes nothing yet. Returns the gradient norm over all
    /// groups, a scalar f64 on the device of the parameters, when a limit is set or `want_norm` is; else undefined. On
    /// the host a norm that is not finite throws `diverged`; on a device apply() then leaves the parameters as they
    /// are.
    Tensor prepare(bool want_norm = false) {
        items_.clear();
        std::vector<std::vector<Tensor>> gradients(groups_.size());
        ClipLimits limits{clip_norm_, {}};
        for (std::size_t i = 0; i < groups_.size(); ++i) {
            const ParameterGroup& group = groups_[i];
            limits.group.push_back(group.clip_norm);
            want_norm = want_norm || clip_norm_ > 0 || group.clip_norm > 0;
            for (const Parameter& p : group.parameters) {
                if (!p.trainable || !p.var.grad().defined()) continue;
                gradients[i].push_back(p.var.grad());
                const bool decayed = !p.norm_or_bias || group.decay_norm_and_bias;
                items_.push_back({p.var.grad(), p.var.value(), moment(kinds().front(), p),
                                  kinds().size() > 1 ? moment(kinds().back(), p) : Tensor(), group.lr_scale,
                                  decayed ? group.weight_decay : 0, static_cast<int>(i)});
            }
        }
        if (items_.empty()) return {};
        const Device device = items_.front().w.device();
        const TensorOptions made{DType::f64, device};
        factors_ = Tensor::empty({static_cast<std::int64_t>(groups_.size())}, made);
        if (!want_norm) {
            kernels(device).fill(context(device), factors_, 1);
            return {};
        }
        const Tensor squares = Tensor::empty(factors_.shape(), made), norm = Tensor::empty({}, made);
        for (std::size_t i = 0; i < groups_.size(); ++i) {
            const auto at = static_cast<std::int64_t>(i);
            kernels(device).sum_squares(context(device), gradients[i], squares.rows(at, at + 1));
        }
        kernels(device).clip_factors(context(device), limits, squares, factors_, norm);
        if (device == cpu_device && !std::isfinite(norm.item()))
            fail(ErrorCode::diverged, "optimizer",
                 "gradient norm is not finite; hint: a lower lr, a warm-up, or clipping");
        return norm;
    }
    /// Updates the parameters by the gradients that prepare() saw.
    void apply(double lr) {
        ++steps_;
        if (!items_.empty()) update(items_, lr, factors_);
        items_.clear();
    }
    void zero_grad() {
        for (const ParameterGroup& group : groups_)
            for (const Parameter& p : group.parameters) p.var.zero_grad();
    }
    std::vector<ParameterGroup>& groups() { return groups_; }
    std::uint64_t steps() const { return steps_; }

    /// Momenta by name ("momentum.layer1.0.conv1.weight"); the tensors share storage with the optimizer.
    virtual StateDict state() const {
        StateDict all;
        all["steps"] = Tensor::from<std::int64_t>({static_cast<std::int64_t>(steps_)}, {1});
        for (const auto& [name, tensor] : moments_) all[name] = tensor;
        return all;
    }
    /// Continues saved moments. A state of another update rule is a data Error; a parameter that the state does not
    /// know (it had no gradient yet) starts from zero.
    void load_state(const StateDict& state) {
        Tensor steps = Tensor::empty({1}, {.dtype = DType::i64});
        load_tensor(state, "steps", steps);
        bool found = false;
        for (const auto& [name, tensor] : state)
            for (const char* kind : kinds()) found = found || name.rfind(kind, 0) == 0;
        BF_CHECK_DATA(found || steps.data<std::int64_t>()[0] == 0, "optimizer", "the saved state has no moment \"",
                      kinds().front(), "*\"; hint: was it saved by another optimizer?");
        steps_ = static_cast<std::uint64_t>(steps.data<std::int64_t>()[0]);
        moments_.clear();
        for (const ParameterGroup& group : groups_)
            for (const Parameter& p : group.parameters)
                if (p.trainable)
                    for (const char* kind : kinds())
                        if (state.count(kind + p.name)) load_tensor(state, kind + p.name, moment(kind, p));
    }

  protected:
    virtual void update(const std::vector<UpdateItem>& items, double lr, const Tensor& factors) = 0;
    /// Prefixes of the moments this rule keeps.
    virtual std::vector<const char*> kinds() const = 0;

    /// The moment of a parameter; zero when first asked for.
    Tensor moment(const char* kind, const Parameter& p) {
        Tensor& m = moments_[kind + p.name];
        if (!m.defined()) {
            m = Tensor::empty(p.var.shape(), p.var.value().options());
            kernels(m.device()).fill(context(m.device()), m, 0);
        }
        return m;
    }

  private:
    std::vector<ParameterGroup> groups_;
    std::vector<UpdateItem> items_;  ///< between prepare() and apply()
    Tensor factors_;
    double clip_norm_;
    StateDict moments_;
    std::uint64_t steps_ = 0;
};

struct SgdOptions {
    double momentum = 0.9;
    bool nesterov = false;
    double clip_norm = 0;  ///< largest gradient norm over all groups; 0: no limit
};

/// SGD with momentum (math/update.hpp).
class Sgd : public Optimizer {
  public:
    Sgd(std::vector<ParameterGroup> groups, const SgdOptions& o = {})
        : Optimizer(std::move(groups), o.clip_norm), options_(o) {}

  private:
    void update(const std::vector<UpdateItem>& items, double lr, const Tensor& factors) override {
        const Device device = factors.device();
        kernels(device).sgd(context(device), {lr, options_.momentum, options_.nesterov}, items, factors);
    }
    std::vector<const char*> kinds() const override { return {"momentum."}; }
    SgdOptions options_;
};

struct AdamWOptions {
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double clip_norm = 0;
    bool coupled = false;  ///< Adam: the weight decay is part of the gradient
};

/// AdamW, or Adam (math/update.hpp).
class AdamW : public Optimizer {
  public:
    AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& o = {})
        : Optimizer(std::move(groups), o.clip_norm), options_(o) {}

  private:
    void update(const std::vector<UpdateItem>& items, double lr, const Tensor& factors) override {
        const Device device = factors.device();
        const double t = static_cast<double>(steps());
        kernels(device).adamw(context(device),
                              {lr, options_.beta1, options_.beta2, options_.epsilon, 1 - std::pow(options_.beta1, t),
                               1 - std::pow(options_.beta2, t), options_.coupled},
                              items, factors);
    }
    std::vector<const char*> kinds() const override { return {"first.", "second."}; }
    AdamWOptions options_;
};

}  // namespace bf

#pragma once
#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bf/autograd/parameter.hpp"
#include "bf/autograd/recompute.hpp"

namespace bf {

/// A piece of a network: named parameters, named buffers (running statistics), named children, and forward().
class Module {
  public:
    virtual ~Module() = default;
    Module() = default;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    virtual Var forward(const Var& x) = 0;
    Var operator()(const Var& x) { return forward(x); }

    /// All parameters below this module with dotted names, in the order of registration (PyTorch's names).
    std::vector<Parameter> parameters() const {
        std::vector<Parameter> all;
        visit("", [&](const std::string& prefix, const Module& m) {
            for (const Parameter& p : m.parameters_) {
                all.push_back(p);
                all.back().name = prefix + p.name;
            }
        });
        return all;
    }
    /// All buffers below this module with dotted names.
    std::vector<std::pair<std::string, Tensor>> buffers() const {
        std::vector<std::pair<std::string, Tensor>> all;
        visit("", [&](const std::string& prefix, const Module& m) {
            for (const auto& [name, tensor] : m.buffers_) all.emplace_back(prefix + name, tensor);
        });
        return all;
    }
    /// Number of parameter elements, frozen ones included.
    std::int64_t parameter_count() const {
        std::int64_t n = 0;
        for (const Parameter& p : parameters()) n += p.var.value().numel();
        return n;
    }

    /// Where the parameters lie (the cpu for a module without any).
    Device device() const {
        const auto all = parameters();
        return all.empty() ? cpu_device : all.front().var.value().device();
    }

    /// Training mode: batch statistics and dropout. Evaluation mode: running statistics, no dropout.
    void train(bool on = true) {
        visit("", [on](const std::string&, const Module& m) { m.training_ = on; });
    }
    void eval() { train(false); }
    bool training() const { return training_; }

    /// Names the forward pass that comes next; dropout draws its mask from it.
    void set_step(std::uint64_t step) {
        visit("", [step](const std::string&, const Module& m) { m.step_ = step; });
    }
    std::uint64_t step() const { return step_; }

    /// True when forward() in training mode queues the same work on the same memory at every step, so that a graph of
    /// it can be launched again and again.
    bool replayable() const {
        bool all = true;
        visit("", [&all](const std::string&, const Module& m) { all = all && m.replays(); });
        return all;
    }

    /// Parameters and buffers by name; the tensors share storage with the module.
    StateDict state() const {
        StateDict all;
        for (const Parameter& p : parameters()) all[p.name] = p.var.value();
        for (const auto& [name, tensor] : buffers()) all[name] = tensor;
        return all;
    }
    /// Copies values into the parameters and buffers; every name must be there with its shape, others are ignored.
    void load_state(const StateDict& state) {
        for (const auto& [name, tensor] : this->state()) load_tensor(state, name, tensor);
    }

  protected:
    Var add_parameter(std::string name, Tensor value, bool norm_or_bias = false, bool trainable = true) {
        Var v = trainable ? Var::leaf(std::move(value)) : Var(std::move(value));
        parameters_.push_back({std::move(name), v, trainable, norm_or_bias});
        return v;
    }
    Tensor add_buffer(std::string name, Tensor value) {
        buffers_.emplace_back(std::move(name), value);
        return value;
    }
    template <class M>
    std::shared_ptr<M> add_child(std::string name, std::shared_ptr<M> child) {
        children_.emplace_back(std::move(name), child);
        return child;
    }

    /// False where this module's own forward() draws on the step or decides on the host.
    virtual bool replays() const { return true; }

  private:
    friend class ModuleModes;

    template <class F>
    void visit(const std::string& prefix, F&& f) const {
        f(prefix, *this);
        for (const auto& [name, child] : children_) child->visit(prefix + name + ".", f);
    }

    std::vector<Parameter> parameters_;
    std::vector<std::pair<std::string, Tensor>> buffers_;
    std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
    mutable bool training_ = true;
    mutable std::uint64_t step_ = 0;
};

/// The modes (training or evaluation) and steps of a module and of each one below it, as they were when this was made.
/// The module must outlive it.
class ModuleModes {
  public:
    explicit ModuleModes(const Module& module) {
        module.visit("", [this](const std::string&, const Module& m) { all_.push_back({&m, m.training_, m.step_}); });
    }
    /// Puts each one's own mode and step back.
    void restore() const {
        for (const Mode& mode : all_) {
            mode.module->training_ = mode.training;
            mode.module->step_ = mode.step;
        }
    }

  private:
    struct Mode {
        const Module* module;
        bool training;
        std::uint64_t step;
    };
    std::vector<Mode> all_;
};

/// While one lives, modes and steps of a module and all below it may be changed; they return when it goes.
class KeepModes {
  public:
    explicit KeepModes(const Module& module) : before_(module) {}
    ~KeepModes() { before_.restore(); }
    KeepModes(const KeepModes&) = delete;
    KeepModes& operator=(const KeepModes&) = delete;

  private:
    ModuleModes before_;
};

/// Activation checkpointing of a module: y = module(x), run again in the backward pass in the modes and at the step of
/// the forward pass. See recompute(f, x).
template <std::derived_from<Module> M>
Var recompute(const std::shared_ptr<M>& module, const Var& x) {
    return recompute(
        [module, then = ModuleModes(*module)](const Var& v) {
            const KeepModes keep(*module);
            then.restore();
            return (*module)(v);
        },
        x);
}

/// Modules one after the other, named "0", "1", ... .
class Sequential : public Module {
  public:
    template <class M>
    std::shared_ptr<M> add(std::shared_ptr<M> module) {
        stages_.push_back(module);
        return add_child(std::to_string(stages_.size() - 1), module);
    }
    Var forward(const Var& x) override {
        Var y = x;
        for (auto& stage : stages_) y = stage->forward(y);
        return y;
    }

  private:
    std::vector<std::shared_ptr<Module>> stages_;
};

}  // namespace bf

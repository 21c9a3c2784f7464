#pragma once
#include <span>
#include <string>

#include "bf/autograd/parameter.hpp"
#include "bf/ops/margin_softmax.hpp"

namespace bf {

/// What a stage sees after the forward pass of one micro-batch, and may change: the classifier's memory, the classifier
/// that the loss sees, and what is added to the encoder's loss.
struct ForwardState {
    std::uint64_t step;  ///< optimizer steps done
    int micro_batch;     ///< 0 for the first of the step
    Tensor embeddings;   ///< [B, D] raw, without graph
    Tensor labels;       ///< [B] i64
    Tensor indices;      ///< [B] i64 places in the dataset; may be undefined
    Var weight;          ///< W [K centers, D]
    ClassifierMemory memory;
    Var encoded{};                 ///< the embeddings with their graph
    Var classifier{};              ///< W [K, D] as the loss sees it: a function of weight, or weight itself
    Var extra_loss{};              ///< added to L_enc; undefined: nothing is
    std::int64_t batch_total = 0;  ///< rows of the whole step; 0: those of this pass
    Tensor target_rows{};  ///< [B] i64 MarginSoftmaxResult::target_rows, once the loss is there; undefined: the labels
};

/// What a stage sees around the update: before_step with the gradients ready and W unmoved, after_step with W moved.
struct StepState {
    std::uint64_t step;
    Var weight;
    std::span<const ForwardState> forwards;  ///< the forward passes of the step, in order
};

// A stage is any class with some of the hooks after_forward(ForwardState&), before_step(StepState&),
// after_step(StepState&), and save_state() / load_state(StateDict) for the checkpoint.
//
// after_forward() is part of what a graph of the step holds: it may queue work, but what it decides on the host is
// decided once. replay_key(step) says when that is right: equal numbers stand for the same work on the same memory, 0
// for work that changes from step to step. A stage without it has no graphs, unless it has no after_forward() either.

template <class S>
void run_after_forward(S& stage, ForwardState& state) {
    if constexpr (requires { stage.after_forward(state); }) stage.after_forward(state);
}
template <class S>
void run_before_step(S& stage, StepState& state) {
    if constexpr (requires { stage.before_step(state); }) stage.before_step(state);
}
template <class S>
void run_after_step(S& stage, StepState& state) {
    if constexpr (requires { stage.after_step(state); }) stage.after_step(state);
}
/// True for a stage whose work a graph can hold, at some steps at least.
template <class S>
constexpr bool offers_replay_key(const S&) {
    return requires(const S& s) { s.replay_key(std::uint64_t{}); }
    || !requires(S & s, ForwardState & f) { s.after_forward(f); };
}
template <class S>
std::uint64_t stage_replay_key(const S& stage, std::uint64_t step) {
    if constexpr (requires { stage.replay_key(step); }) return stage.replay_key(step);
    return offers_replay_key(stage) ? 1 : 0;
}
/// A stage's state under names of its own, and the same without them: what does not begin with `prefix` is left out.
inline StateDict prefixed(const std::string& prefix, const StateDict& state) {
    StateDict all;
    for (const auto& [name, tensor] : state) all[prefix + name] = tensor;
    return all;
}
inline StateDict without_prefix(const std::string& prefix, const StateDict& state) {
    StateDict some;
    for (const auto& [name, tensor] : state)
        if (name.rfind(prefix, 0) == 0) some[name.substr(prefix.size())] = tensor;
    return some;
}

template <class S>
StateDict save_stage(const S& stage) {
    if constexpr (requires { stage.save_state(); }) return stage.save_state();
    return {};
}
template <class S>
void load_stage(S& stage, const StateDict& state) {
    if constexpr (requires { stage.load_state(state); }) stage.load_state(state);
}

}  // namespace bf

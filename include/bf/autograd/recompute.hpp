#pragma once
#include <type_traits>

#include "bf/autograd/var.hpp"

namespace bf {

/// True while a function given to recompute() runs for the second time. What a forward pass changes beside its output
/// (running statistics) has changed in the first run already and must be left alone.
inline bool recomputing() { return detail::recording.recomputing; }

namespace detail {

struct Recompute {
    /// Puts the thread's way of recording back.
    struct KeepRecording {
        Recording before = recording;
        ~KeepRecording() { recording = before; }
    };

    template <class F>
    static Var record(F f, const Var& x) {
        std::vector<std::shared_ptr<Node>> outside;  // all that the graph of f hangs on
        Var out;
        {
            const KeepRecording keep;
            recording.no_grad_depth = 1;
            recording.reached = &outside;
            out = f(x);
        }
        if (out.node_) outside.push_back(std::exchange(out.node_, nullptr));  // f handed on what it was given
        if (outside.empty()) return out;
        out.node_ = std::make_shared<Node>();
        out.node_->inputs = outside;
        out.node_->backward = [f = std::move(f), x, outside = std::move(outside)](const Tensor& dy) {
            Var again;
            {
                const KeepRecording keep;
                recording = {.recomputing = true};
                again = f(x);
            }
            BF_CHECK(again.shape() == dy.shape(), "recompute", "the second run differs; got ", again.value().str(),
                     ", want ", dy.shape(), "; hint: the function must do the same both times");
            BF_CHECK(again.node_, "recompute", "the output hangs on nothing that wants a gradient; got ",
                     again.value().str(), "; hint: was it detached, or made otherwise in the second run?");
            again.accumulate(dy);
            again.value_ = Tensor();
            walk(again.node_, outside);
        };
        return out;
    }
};

}  // namespace detail

/// Activation checkpointing ("checkpoint" in PyTorch, a word that here means files): y = f(x), of which only x is kept
/// for the backward pass. There f runs again, now with a graph, which is taken apart at once: memory for one more
/// forward pass of f. f takes and returns a Var and must do the same both times (dropout keyed by step does);
/// parameters and other values that it captures get their gradients, also where x is a constant. Gradients are those
/// without it, to the bit on a device that repeats itself, unless x or a captured value is used elsewhere too: then
/// the same terms may be added in another order. Source: Chen et al. 2016, "Training deep nets with sublinear memory
/// cost".
template <class F>
requires std::is_invocable_r_v<Var, const F&, const Var&> Var recompute(F f, const Var& x) {
    if (detail::recording.no_grad_depth > 0) return f(x);
    return detail::Recompute::record(std::move(f), x);
}

}  // namespace bf

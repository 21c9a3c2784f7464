#pragma once
#include <algorithm>
#include <functional>
#include <initializer_list>
#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "bf/autograd/trace.hpp"
#include "bf/core/tensor.hpp"
#include "bf/kernels/dispatch.hpp"

namespace bf {

/// The gradient of an op: receives d loss / d output and adds to the gradients of the inputs it captured.
using Backward = std::function<void(const Tensor& dy)>;

namespace detail {

struct Recompute;  // autograd/recompute.hpp

/// One node of the tape. It holds no forward value: what a gradient needs is what its closure captured.
struct Node {
    Tensor grad;
    std::vector<std::shared_ptr<Node>> inputs;
    Backward backward;
    bool walked = false;  ///< its gradient was taken on; the saved tensors are gone
};

/// How this thread records ops.
struct Recording {
    int no_grad_depth = 0;
    std::vector<std::shared_ptr<Node>>* reached = nullptr;  ///< gets the nodes that the outermost NoGrad cuts off
    bool recomputing = false;
};
inline thread_local Recording recording;

/// Takes apart the graph below `root`, whose gradient is there. What `outside` names gets its gradient, but is left
/// whole with all below it.
inline void walk(const std::shared_ptr<Node>& root, const std::vector<std::shared_ptr<Node>>& outside = {}) {
    // Iterative depth-first post-order: inputs before outputs, then walked from the end.
    std::vector<std::shared_ptr<Node>> order;
    std::unordered_set<const Node*> seen;
    for (const auto& node : outside) seen.insert(node.get());
    struct Visit {
        std::shared_ptr<Node> node;
        std::size_t next;
    };
    std::vector<Visit> stack;
    if (seen.insert(root.get()).second) stack.push_back({root, 0});
    while (!stack.empty()) {
        Visit& top = stack.back();
        if (top.next < top.node->inputs.size()) {
            std::shared_ptr<Node> input = top.node->inputs[top.next++];
            if (seen.insert(input.get()).second) stack.push_back({std::move(input), 0});
        } else {
            order.push_back(std::move(top.node));
            stack.pop_back();
        }
    }
    while (!order.empty()) {
        const std::shared_ptr<Node> node = std::move(order.back());
        order.pop_back();
        BF_CHECK(!node->walked, "backward",
                 "this graph was walked before; hint: add the losses, then call backward() once");
        if (!node->backward) continue;  // a leaf keeps its gradient
        const Backward step = std::move(node->backward);
        const Tensor dy = std::move(node->grad);
        node->backward = nullptr;
        node->walked = true;
        node->grad = Tensor();
        node->inputs.clear();
        if (dy.defined()) step(dy);
    }
}

}  // namespace detail

/// Where the gradient of a value goes. A closure that needs no forward value captures the sink alone, so that the
/// value's memory can be reused.
class GradSink {
  public:
    GradSink() = default;
    bool requires_grad() const { return node_ != nullptr; }
    const Shape& shape() const { return shape_; }

    /// Adds dx (the value's shape and format) to the gradient; does nothing for a constant.
    void accumulate(const Tensor& dx) const {
        if (!node_) return;
        BF_CHECK(dx.shape() == shape_ && dx.format() == format_, "accumulate", "gradient differs; got ", dx.str(),
                 ", want ", shape_, format_ == Format::nhwc ? " nhwc" : "");
        Tensor& grad = node_->grad;
        if (!grad.defined()) {
            grad = dx;
            return;
        }
        // A gradient that something else shares (an add hands one tensor to both inputs) must not be written.
        const Device device = grad.device();
        if (!grad.unique()) {
            Tensor own = Tensor::empty(grad.shape(), grad.options());
            kernels(device).convert(context(device), grad, own);
            grad = own;
        }
        kernels(device).axpby(context(device), 1, dx, 1, grad);
    }

  private:
    friend class Var;
    GradSink(std::shared_ptr<detail::Node> node, const Tensor& value)
        : node_(std::move(node)), shape_(value.shape()), format_(value.format()) {}

    std::shared_ptr<detail::Node> node_;
    Shape shape_;
    Format format_ = Format::plain;
};

/// A tensor that takes part in differentiation. Copies share value and gradient.
class Var {
  public:
    Var() = default;
    /// A constant: no gradient flows into it.
    explicit Var(Tensor value) : value_(std::move(value)) {}

    /// A variable whose gradient is wanted (a parameter, or the input of a gradient check).
    static Var leaf(Tensor value) {
        Var v(std::move(value));
        v.node_ = std::make_shared<detail::Node>();
        return v;
    }

    const Tensor& value() const { return value_; }
    const Shape& shape() const { return value_.shape(); }
    bool requires_grad() const { return node_ != nullptr; }

    /// d loss / d value after backward(); undefined before, and for constants.
    const Tensor& grad() const {
        static const Tensor none;
        return node_ ? node_->grad : none;
    }
    /// Forgets the gradient; its memory returns to the allocator's cache.
    void zero_grad() const {
        if (node_) node_->grad = Tensor();
    }
    /// Adds dx (the value's shape and format) to the gradient; does nothing on a constant.
    void accumulate(const Tensor& dx) const { sink().accumulate(dx); }
    /// The way to this variable's gradient, without its value.
    GradSink sink() const { return {node_, value_}; }
    /// The same value without the graph.
    Var detach() const { return Var(value_); }

  private:
    friend Var record(Tensor, std::initializer_list<Var>, Backward);
    friend Var record(Tensor, const std::vector<Var>&, Backward);
    friend void backward(const Var&, const Tensor&);
    friend struct detail::Recompute;

    Tensor value_;
    std::shared_ptr<detail::Node> node_;
};

/// While one lives, ops on this thread record no graph.
class NoGrad {
  public:
    NoGrad() { ++detail::recording.no_grad_depth; }
    ~NoGrad() { --detail::recording.no_grad_depth; }
    NoGrad(const NoGrad&) = delete;
    NoGrad& operator=(const NoGrad&) = delete;
};

/// Whether an op with these inputs keeps its backward pass: what only that would use need not be saved otherwise.
inline bool will_record(std::initializer_list<Var> inputs) {
    return detail::recording.no_grad_depth == 0 &&
           std::any_of(inputs.begin(), inputs.end(), [](const Var& v) { return v.requires_grad(); });
}

/// Makes the output of an op. `backward` is kept only if an input wants a gradient and no NoGrad lives. An op that did
/// not tell a Trace of itself stands there without a name.
inline Var record(Tensor value, const std::vector<Var>& inputs, Backward backward) {
    if (Trace* t = Trace::current(); t && !t->has_just(value)) {
        TracedOp op{"", {}, value, {}};
        for (const Var& v : inputs) op.inputs.push_back(v.value());
        t->add(std::move(op));
    }
    Var out(std::move(value));
    const detail::Recording& recording = detail::recording;
    if (recording.no_grad_depth > 0) {
        if (recording.reached && recording.no_grad_depth == 1)
            for (const Var& v : inputs)
                if (v.node_) recording.reached->push_back(v.node_);
        return out;
    }
    std::vector<std::shared_ptr<detail::Node>> nodes;
    for (const Var& v : inputs)
        if (v.node_) nodes.push_back(v.node_);
    if (nodes.empty()) return out;
    out.node_ = std::make_shared<detail::Node>();
    out.node_->inputs = std::move(nodes);
    out.node_->backward = std::move(backward);
    return out;
}
inline Var record(Tensor value, std::initializer_list<Var> inputs, Backward backward) {
    return record(std::move(value), std::vector<Var>(inputs), std::move(backward));
}

/// Adds d (seed . root) / d leaf to the gradient of every leaf below `root`, and takes the graph apart as it goes:
/// saved tensors return to the allocator as soon as they were used. A graph can be walked once.
inline void backward(const Var& root, const Tensor& seed) {
    BF_CHECK(root.node_, "backward", "the value depends on nothing that wants a gradient; got ", root.value_.str(),
             "; hint: is a NoGrad alive, or is every input a constant?");
    root.accumulate(seed);
    detail::walk(root.node_);
}

/// backward() of a loss: a tensor of one element, seeded with 1.
inline void backward(const Var& loss) {
    BF_CHECK(loss.value().numel() == 1, "backward", "a loss has one element; got ", loss.value().str(),
             "; hint: mean() or sum() first");
    const Device device = loss.value().device();
    Tensor one = Tensor::empty(loss.shape(), loss.value().options());
    kernels(device).fill(context(device), one, 1);
    backward(loss, one);
}

}  // namespace bf

#pragma once
#include <string>
#include <utility>
#include <vector>

#include "bf/core/tensor.hpp"

namespace bf {

/// An op as it ran while a Trace lived.
struct TracedOp {
    std::string name;            ///< "conv2d", "batch_norm_eval", ...; empty: an op that tells nothing of itself
    std::vector<Tensor> inputs;  ///< in the order of the op's arguments; undefined where one was left out
    Tensor output;
    std::vector<std::pair<std::string, double>> attributes;  ///< what else decides the result: "stride", ...

    /// A usage Error where the op has no such attribute.
    double attribute(const std::string& key) const {
        for (const auto& [k, value] : attributes)
            if (k == key) return value;
        fail(ErrorCode::usage, name, "no attribute ", key, " was traced");
    }
};

/// True for the same elements in memory under the same shape.
inline bool same_value(const Tensor& a, const Tensor& b) {
    return a.shares_storage(b) && a.raw() == b.raw() && a.shape() == b.shape() && a.format() == b.format() &&
           a.dtype() == b.dtype();
}

/// While one lives, the ops of this thread are written down in the order in which they ran, so that the graph of any
/// network is known from its forward pass (which branch it took is not). It keeps every value alive, so that each is
/// known by its memory. The newest one that lives gets the ops; without one an op pays one branch.
class Trace {
  public:
    Trace() : before_(std::exchange(current_, this)) {}
    ~Trace() { current_ = before_; }
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    /// The one that gets this thread's ops; nullptr: none.
    static Trace* current() { return current_; }
    const std::vector<TracedOp>& ops() const { return ops_; }

    void add(TracedOp op) { ops_.push_back(std::move(op)); }
    /// True when the newest op made this value.
    bool has_just(const Tensor& value) const { return !ops_.empty() && same_value(ops_.back().output, value); }

  private:
    static inline constinit thread_local Trace* current_ = nullptr;
    Trace* before_;
    std::vector<TracedOp> ops_;
};

}  // namespace bf

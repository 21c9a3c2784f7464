#pragma once
#include "bf/autograd/parameter.hpp"
#include "bf/kernels/classifier.hpp"

namespace bf {

/// A head of margin_softmax() that is more than a Margin (math/margin_head.hpp), with what it carries from batch to
/// batch. The state lies on the device and moves there, so that a step waits for nothing and a graph of it may be
/// launched again: a batch moves it once a call, rows of a memory never do. With micro-batches each of them is a batch.
class MarginHead {
  public:
    /// dtype: of the classifier.
    explicit MarginHead(const HeadRule& rule = {}, Device device = cpu_device, DType dtype = DType::f32) : rule_(rule) {
        BF_CHECK(rule.centers >= 1, "margin head", "centers; got ", rule.centers, ", want 1 or more");
        const math::NormStatistics start;
        norms_ = Tensor::from<double>({start.mean, start.deviation}, {2}).to(device);
        calls_ = Tensor::zeros({1}, {DType::i64, device});
        if (rule.kind == HeadKind::curricularface) curricular_t_ = Tensor::zeros({}, {dtype, device});
    }

    const HeadRule& rule() const { return rule_; }
    /// False for a head whose rows all have the margins of the Margin.
    bool sets_margins() const { return rule_.kind != HeadKind::fixed && rule_.kind != HeadKind::curricularface; }
    /// CurricularFace's t, a scalar; undefined for other heads.
    const Tensor& curricular_t() const { return curricular_t_; }
    /// True where the loss has a gradient along the embedding too, and a penalty (MagFace).
    bool radial() const { return rule_.kind == HeadKind::magface; }

    /// Fills m2 and m3 of rows whose inverse norms are known; those of a batch move the state first.
    void set_margins(const Margin& margin, bool batch, ClassifierRows& rows) const {
        check(margin);
        const Device device = rows.x.device();
        rows.m2 = Tensor::empty(Shape{rows.count()}, {rows.x.dtype(), device});
        rows.m3 = Tensor::empty(Shape{rows.count()}, {rows.x.dtype(), device});
        kernels(device).head_margins(context(device), rule_, margin, batch, rows, norms_, calls_);
    }
    /// Fills `radial` of completed rows and gives the sum of their penalties, a scalar.
    Tensor set_radial(const Margin& margin, double scale, const Tensor& cosine, ClassifierRows& rows) const {
        const Device device = rows.x.device();
        const TensorOptions made{rows.x.dtype(), device};
        rows.radial = Tensor::empty(Shape{rows.count()}, made);
        const Tensor penalty = Tensor::empty({}, made);
        kernels(device).head_radial(context(device), rule_, margin, scale, rows, cosine, penalty);
        return penalty;
    }

    /// What the next batch depends on, for the checkpoint; tensors share storage with the head.
    StateDict save_state() const {
        StateDict state;
        if (rule_.kind == HeadKind::adaface) state["head.norms"] = norms_;  // mean, std
        if (curricular_t_.defined()) state["head.t"] = curricular_t_;
        if (rule_.kind == HeadKind::elasticface) state["head.calls"] = calls_;  // batches that have drawn
        return state;
    }
    /// Continues a saved head; a state that was saved under another head leaves this one at its start.
    void load_state(const StateDict& state) const {
        for (const auto& [name, into] : save_state()) {
            const auto it = state.find(name);
            if (it == state.end()) continue;
            BF_CHECK_DATA(it->second.shape() == into.shape() && it->second.dtype() == into.dtype(), "margin head",
                          "saved ", name, " differs; got ", it->second.str(), ", want ", into.str());
            into.copy_from(it->second);
        }
    }

  private:
    void check(const Margin& margin) const {
        const MarginKind kind = margin.kind;
        const bool right = rule_.kind == HeadKind::adaface ? kind == MarginKind::adaface
                           : rule_.kind == HeadKind::elasticface
                               ? kind == MarginKind::arcface || kind == MarginKind::cosface
                               : kind == MarginKind::arcface;
        BF_CHECK(right, "margin head", "does not go with this margin; hint: adaface with adaface(), elasticface with ",
                 "arcface() or cosface(), magface with arcface()");
    }

    HeadRule rule_;
    Tensor norms_;  ///< [2] f64: moving mean and standard deviation of the batches' norms
    Tensor curricular_t_;
    Tensor calls_;  ///< [1] i64: batches so far
};

}  // namespace bf

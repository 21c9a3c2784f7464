#pragma once
#include "bf/ops/memory.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/optim/broadface.hpp"

namespace bf {

/// Switches of XBM (cross-batch memory; Wang, Zhang, Huang, Scott, CVPR 2020).
struct XbmOptions {
    /// Rows of the memory beside the batch; 0: no pair loss at all. The paper's memory of M rows holds the batch too:
    /// it is a queue of M less the rows of a step.
    std::int64_t queue = 8192;
    double weight = 1;                ///< of the pair loss beside L_enc
    double margin = 0.5;              ///< cosine above which a pair of two classes costs something
    std::uint64_t start_step = 1000;  ///< optimizer step from which the pair loss counts; the queue fills before
    bool compensate = false;  ///< not in the paper: old embeddings move with their W row, as BroadFace moves them
};

/// Cross-batch memory over an EmbeddingQueue: the encoder gets a contrastive loss between the batch and past embeddings
/// as they were, and the batch itself without a row's pair with itself; the classifier stays with the batch. As a stage
/// it adds to the encoder's loss after the forward pass and takes in the step's embeddings before the update; a
/// hand-written loop calls loss() and push(). Differences from the authors' code, by which it is not changed otherwise:
/// the queue fills before start_step, too; a row's pair with itself is left out by its place, not by a cosine of nearly
/// one; with micro-batches each meets the queue and itself.
class Xbm {
  public:
    /// dim: D of the embeddings.
    Xbm(const XbmOptions& options, std::int64_t dim, DType dtype = DType::f32, Device device = cpu_device)
        : options_(options),
          rows_({.queue = options.queue, .compensate = options.compensate, .start_step = options.start_step}, dim,
                dtype, device) {
        BF_CHECK(options.weight >= 0 && options.margin >= -1 && options.margin <= 1, "xbm", "weight and margin; got ",
                 options.weight, " and ", options.margin, ", want 0 or more, and a cosine");
    }

    const XbmOptions& options() const { return options_; }
    /// The rows and their telemetry.
    const BroadFace& rows() const { return rows_; }

    /// weight times the pair loss of a batch e [B, D] (labels [B] i64) at this step, a scalar to add to L_enc;
    /// undefined while there is none. w [K, D] is today's classifier; batch_total: see ContrastiveOptions.
    Var loss(const Var& e, const Tensor& labels, const Tensor& w, std::uint64_t step, std::int64_t batch_total = 0) {
        if (options_.queue == 0 || step < options_.start_step) return {};
        ContrastiveOptions pairs{.margin = options_.margin, .weight = options_.weight, .batch_total = batch_total};
        const Var own = contrastive_pairs(e, labels, {e.value(), labels, 0}, pairs);
        const ClassifierMemory past = rows_.memory(w, step);
        return past.total == 0 ? own : own + contrastive_pairs(e, labels, {past.embeddings, past.labels}, pairs);
    }

    /// Takes in embeddings e [B, D] with the rows of w that belong to labels [B]; call it before w is updated.
    /// indices [B] i64 name the images and are only kept for telemetry.
    void push(const Tensor& e, const Tensor& labels, const Tensor& w, std::uint64_t step, const Tensor& indices = {}) {
        rows_.push(e, labels, w, step, indices);
    }

    /// Stage hook: adds the pair loss of the micro-batch.
    void after_forward(ForwardState& state) {
        if (options_.queue == 0) return;
        seen_ = true;
        BF_CHECK(state.encoded.value().defined(), "xbm",
                 "after_forward() wants the embeddings with their graph; "
                 "hint: ForwardState::encoded");
        const Var pairs = loss(state.encoded, state.labels, state.weight.value(), state.step, state.batch_total);
        if (!pairs.value().defined()) return;
        state.extra_loss = state.extra_loss.value().defined() ? state.extra_loss + pairs : pairs;
    }
    /// Stage hook: every embedding of the step enters with the W of the forward pass.
    void before_step(StepState& state) {
        BF_CHECK(!seen_ || !state.forwards.empty(), "xbm",
                 "before_step() wants the forward passes of the step; "
                 "hint: StepState::forwards");
        seen_ = false;
        rows_.before_step(state);
    }
    /// Stage hook: a graph of the step holds good while there is no pair loss, or the queue is used as a whole.
    std::uint64_t replay_key(std::uint64_t step) const { return rows_.replay_key(step); }
    /// The queue under names of its own, so that it stands beside another stage's; nothing without a queue.
    StateDict save_state() const { return options_.queue == 0 ? StateDict{} : prefixed("xbm.", rows_.save_state()); }
    /// A checkpoint that was written without this stage leaves the queue empty.
    void load_state(const StateDict& state) {
        const StateDict own = without_prefix("xbm.", state);
        if (options_.queue > 0 && !own.empty()) rows_.load_state(own);
    }

  private:
    XbmOptions options_;
    BroadFace rows_;
    bool seen_ = false;  ///< a forward pass since the last step
};

}  // namespace bf

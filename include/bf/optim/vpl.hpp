#pragma once
#include "bf/ops/memory.hpp"
#include "bf/optim/broadface.hpp"

namespace bf {

/// Switches of VPL (variational prototype learning; Deng, Guo, Yang, Lattas, Zafeiriou, CVPR 2021), with the defaults
/// of insightface recognition/vpl.
struct VplOptions {
    std::int64_t queue = 0;           ///< rows; 0: plain training. age_limit steps of a run keep all that may count
    double lambda = 0.15;             ///< share of the memory in a prototype
    std::uint64_t age_limit = 200;    ///< oldest age in steps of a row that counts; 0: no limit
    std::uint64_t start_step = 8000;  ///< optimizer step from which prototypes are mixed; the queue fills before
};

/// Variational prototypes over an EmbeddingQueue: the loss sees (1 - lambda) w / |w| + lambda e / |e| in the place of
/// each row w of the classifier whose class was seen lately, with e its newest embedding. Encoder and classifier both
/// get the gradient of that loss. As a stage it replaces the classifier after the forward pass and takes in the step's
/// embeddings before the update; a hand-written loop calls classifier() and push().
class Vpl {
  public:
    /// dim: D of the embeddings.
    Vpl(const VplOptions& options, std::int64_t dim, DType dtype = DType::f32, Device device = cpu_device)
        : options_(options),
          rows_({.queue = options.queue,
                 .compensate = false,
                 .start_step = options.start_step,
                 .age_limit = options.age_limit},
                dim, dtype, device) {
        BF_CHECK(options.lambda >= 0 && options.lambda < 1, "vpl", "lambda; got ", options.lambda,
                 ", want 0 <= lambda < 1");
    }

    const VplOptions& options() const { return options_; }
    /// The rows and their telemetry.
    const BroadFace& rows() const { return rows_; }

    /// W [K, D] as the loss sees it at this step: w itself while no row counts.
    Var classifier(const Var& w, std::uint64_t step) {
        const EmbeddingQueue& queue = rows_.queue();
        queue.check_weight(w.value());
        const std::int64_t used = rows_.usable(step);
        if (used == 0) return w;
        find_newest(w.value());
        return mix_prototypes(w, {queue.slots(), newest_, queue.sequence() - used}, options_.lambda);
    }

    /// Takes in embeddings e [B, D] with labels [B]; call it before w [K, D] is updated. indices [B] i64 name the
    /// images and are only kept for telemetry.
    void push(const Tensor& e, const Tensor& labels, const Tensor& w, std::uint64_t step, const Tensor& indices = {}) {
        if (options_.queue == 0) return;
        find_newest(w);
        const std::int64_t first = rows_.queue().sequence();
        rows_.push(e, labels, w, step, indices);
        mark(labels, first);
    }

    /// Stage hook: the classifier that the loss sees.
    void after_forward(ForwardState& state) {
        if (options_.queue == 0) return;
        seen_ = true;
        state.classifier = classifier(state.classifier.value().defined() ? state.classifier : state.weight, state.step);
    }
    /// Stage hook: every embedding of the step enters.
    void before_step(StepState& state) {
        BF_CHECK(!seen_ || !state.forwards.empty(), "vpl",
                 "before_step() wants the forward passes of the step; "
                 "hint: StepState::forwards");
        seen_ = false;
        for (const ForwardState& f : state.forwards)
            push(f.embeddings, f.labels, state.weight.value(), state.step, f.indices);
    }
    /// Stage hook: no graph of a step holds good while prototypes are mixed: which rows count moves with every step.
    std::uint64_t replay_key(std::uint64_t step) const {
        return options_.queue == 0 ? 1 : step < options_.start_step ? 3 : 0;
    }
    /// The queue under names of its own, so that it stands beside another stage's; nothing without a queue.
    StateDict save_state() const { return options_.queue == 0 ? StateDict{} : prefixed("vpl.", rows_.save_state()); }
    /// A checkpoint that was written without this stage leaves the queue empty.
    void load_state(const StateDict& state) {
        const StateDict own = without_prefix("vpl.", state);
        if (options_.queue == 0 || own.empty()) return;
        rows_.load_state(own);
        newest_ = Tensor();
    }

  private:
    /// The number of each class's newest row, from the queue itself where it is not known.
    void find_newest(const Tensor& w) {
        if (newest_.defined()) {
            BF_CHECK(newest_.dim(0) == w.dim(0), "vpl", "classes differ; got ", w.str(), ", want [", newest_.dim(0),
                     ", D] as before");
            return;
        }
        const EmbeddingQueue& queue = rows_.queue();
        const Tensor labels = queue.newest(queue.size(), false).labels;
        EmbeddingQueue::check_labels(labels, w);
        newest_ = Tensor::empty({w.dim(0)}, {DType::i64, w.device()});
        kernels(w.device()).fill(context(w.device()), newest_, -1);
        mark(labels, queue.oldest());
    }
    /// In pieces, since a device compares each row with the later ones of its piece.
    void mark(const Tensor& labels, std::int64_t first) {
        constexpr std::int64_t piece = 1024;
        for (std::int64_t begin = 0; begin < labels.numel(); begin += piece)
            kernels(newest_.device())
                .newest_rows(context(newest_.device()), labels.rows(begin, std::min(begin + piece, labels.numel())),
                             first + begin, newest_);
    }

    VplOptions options_;
    BroadFace rows_;
    Tensor newest_;      ///< [K] i64
    bool seen_ = false;  ///< a forward pass since the last step
};

}  // namespace bf

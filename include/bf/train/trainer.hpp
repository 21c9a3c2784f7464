#pragma once
#include <cmath>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>

#include "bf/core/readback.hpp"
#include "bf/nn/module.hpp"
#include "bf/ops/margin_softmax.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/optim/optimizer.hpp"
#include "bf/optim/schedule.hpp"
#include "bf/optim/stage.hpp"

namespace bf {

/// Images [B, 3, S, S] and labels [B] i64 of one forward pass; indices [B] i64 name the images in their dataset.
struct TrainBatch {
    Tensor images, labels, indices;
};

/// What one optimizer step did.
struct StepReport {
    std::uint64_t step = 0;      ///< steps done, this one included
    double loss = 0;             ///< L_enc: mean over the batch
    double classifier_loss = 0;  ///< L_cls: mean over batch and queue
    double accuracy = 0;         ///< share of the batch whose own class has the largest cosine
    double lr = 0;
    double gradient_norm = 0;  ///< 0 unless it was asked for or clipped
    double extra_loss = 0;     ///< what stages added to the encoder's loss (ForwardState::extra_loss); not in `loss`
};

/// Options of a Trainer.
struct TrainerOptions {
    Margin margin;
    const MarginHead* head = nullptr;  ///< of the margins of each row, used, not owned; its state is in the checkpoint
    Schedule schedule;
    bool want_gradient_norm = false;
    DType products = DType::f32;                 ///< of the classifier: see ClassifierWeights::products
    std::int64_t kept_bytes = usual_kept_bytes;  ///< of its logits: see MarginSoftmaxOptions::kept_bytes
    /// Capture forward and backward pass as a graph of the device and launch that, once three steps in a row did the
    /// same work. What cannot be captured runs as ever: see Trainer::graph_note().
    bool graph = false;
};

/// A step that was queued; its values may still be on their way from the device. Trainer::finish() takes it.
class PendingStep {
    template <class... Stages>
    friend class Trainer;
    StepReport report_;
    std::size_t micro_batches_ = 0, extra_losses_ = 0;
    std::int64_t batch_total_ = 0;
    std::unique_ptr<Readback> values_;
};

/// The training step: forward, margin loss, backward, update, with stages called in the order in which they are
/// given. A hand-written loop can do the same with the same parts (samples/train_broadface.cpp).
template <class... Stages>
class Trainer {
  public:
    /// net: images to embeddings; w: the classifier [K, D]. All are used, not owned.
    Trainer(Module& net, const Var& w, Optimizer& optimizer, const TrainerOptions& options, Stages&... stages)
        : net_(net), w_(w), optimizer_(optimizer), options_(options), stages_(stages...) {}

    /// One optimizer step over one or more micro-batches. Their gradients add up to that of one batch, batch norm
    /// apart: its statistics are those of each micro-batch, and the running ones move with each.
    StepReport step(std::span<const TrainBatch> micro_batches) { return finish(launch(micro_batches)); }

    /// Queues a step and does not wait for the device; finish() later gives what it did. On the host the step has been
    /// done when this returns, and one that diverges throws here and leaves all as it was, running statistics and the
    /// head's apart.
    PendingStep launch(std::span<const TrainBatch> micro_batches) {
        BF_CHECK(!micro_batches.empty(), "trainer", "a step wants at least one batch");
        PendingStep pending;
        pending.report_ = {.step = steps_ + 1, .lr = options_.schedule(steps_)};
        pending.micro_batches_ = micro_batches.size();
        for (const TrainBatch& b : micro_batches) pending.batch_total_ += b.labels.numel();
        net_.train();
        const Work& work = run(micro_batches);
        pending.extra_losses_ = work.scalars.size() - 3 * micro_batches.size();
        pending.values_ = take_readback();
        // on the host looking costs nothing: before a stage takes the step's rows in and the parameters move
        if (device() == cpu_device) {
            pending.values_->start(work.scalars);
            read(pending);
        }
        const Tensor norm = optimizer_.prepare(options_.want_gradient_norm);
        if (device() == cpu_device) {
            pending.report_.gradient_norm = norm.defined() ? norm.item() : 0;
        } else {
            std::vector<Tensor> scalars = work.scalars;
            if (norm.defined()) scalars.push_back(norm);
            pending.values_->start(scalars);
        }

        std::vector<ForwardState> forwards = work.forwards;
        for (std::size_t m = 0; m < forwards.size(); ++m) {
            forwards[m].step = steps_;
            forwards[m].indices = micro_batches[m].indices;
        }
        StepState state{.step = steps_, .weight = w_, .forwards = forwards};
        each_stage([&](auto& stage) { run_before_step(stage, state); });
        optimizer_.apply(pending.report_.lr);
        each_stage([&](auto& stage) { run_after_step(stage, state); });
        work_ = {};
        ++steps_;
        return pending;
    }
    /// Waits for the values of a queued step. Throws `diverged` when its loss is not finite; on a device the parameters
    /// then are those from before it, if the gradient norm was asked for.
    StepReport finish(PendingStep pending) {
        BF_CHECK(pending.values_, "trainer", "this step was finished before, or never launched");
        if (device() != cpu_device) read(pending);
        readbacks_.push_back(std::move(pending.values_));
        return pending.report_;
    }

    /// Why no step runs as a graph although it was asked for; empty where there is no lasting reason. A step whose work
    /// is of its own (a queue that fills or ramps, another batch shape) runs without one and leaves no note.
    const std::string& graph_note() const { return graph_note_; }
    /// Steps that were launched as a graph so far.
    std::uint64_t graph_launches() const { return graph_launches_; }

    /// Optimizer steps done.
    std::uint64_t steps() const { return steps_; }

    /// Everything the next step depends on: network, classifier, optimizer, margin head, stages, step counter. The
    /// tensors share storage with the parts.
    StateDict state() const {
        StateDict all;
        const auto put = [&all](const std::string& prefix, const StateDict& part) {
            all.merge(prefixed(prefix, part));
        };
        put("net.", net_.state());
        all["classifier.weight"] = w_.value();
        put("optimizer.", optimizer_.state());
        if (options_.head) put("", options_.head->save_state());
        each_stage([&](auto& stage) { put("", save_stage(stage)); });
        all["trainer.steps"] = Tensor::from<std::int64_t>({static_cast<std::int64_t>(steps_)}, {1});
        return all;
    }
    void load_state(const StateDict& state) {
        net_.load_state(without_prefix("net.", state));
        load_tensor(state, "classifier.weight", w_.value());
        optimizer_.load_state(without_prefix("optimizer.", state));
        if (options_.head) options_.head->load_state(state);
        each_stage([&](auto& stage) { load_stage(stage, state); });
        const Tensor steps = Tensor::zeros({1}, {.dtype = DType::i64});
        load_tensor(state, "trainer.steps", steps);
        steps_ = static_cast<std::uint64_t>(steps.data<std::int64_t>()[0]);
    }

  private:
    /// What forward and backward passes of a step leave.
    struct Work {
        std::vector<ForwardState> forwards;
        std::vector<Tensor> scalars;  ///< loss, classifier loss and correct rows of each micro-batch; extra losses
    };
    /// A step that was captured, with the memory that it reads and writes.
    struct Captured {
        std::uint64_t key = 0;
        std::vector<TrainBatch> inputs;
        Work work;
        std::vector<std::pair<Var, Tensor>> gradients;
        std::unique_ptr<DeviceGraph> graph;
    };

    Device device() const { return w_.value().device(); }

    /// Queues forward and backward passes: the gradients lie in the parameters afterwards.
    Work compute(std::span<const TrainBatch> micro_batches) {
        Work work;
        std::vector<Tensor> extra;
        std::int64_t batch_total = 0;
        for (const TrainBatch& b : micro_batches) batch_total += b.labels.numel();
        optimizer_.zero_grad();
        for (std::size_t m = 0; m < micro_batches.size(); ++m) {
            const TrainBatch& batch = micro_batches[m];
            net_.set_step(steps_ * micro_batches.size() + m);
            const Var e = net_(Var(batch.images));
            ForwardState forward{.step = steps_,
                                 .micro_batch = static_cast<int>(m),
                                 .embeddings = e.value(),
                                 .labels = batch.labels,
                                 .indices = batch.indices,
                                 .weight = w_,
                                 .memory = {},
                                 .encoded = e,
                                 .classifier = w_,
                                 .batch_total = batch_total};
            each_stage([&](auto& stage) { run_after_forward(stage, forward); });
            const MarginSoftmaxResult loss = margin_softmax(e, forward.classifier, batch.labels,
                                                            {.margin = options_.margin,
                                                             .batch_total = batch_total,
                                                             .memory = forward.memory,
                                                             .head = options_.head,
                                                             .products = options_.products,
                                                             .kept_bytes = options_.kept_bytes});
            const bool more = forward.extra_loss.value().defined();
            if (more) extra.push_back(forward.extra_loss.value());
            backward(more ? loss.loss + forward.extra_loss : loss.loss);
            forward.target_rows = loss.target_rows;
            forward.memory = {};  // its rows are not needed any more, nor is what is left of the graph
            forward.encoded = forward.classifier = forward.extra_loss = Var();
            work.forwards.push_back(forward);
            work.scalars.insert(work.scalars.end(), {loss.loss.value(), loss.classifier_loss, loss.correct});
        }
        work.scalars.insert(work.scalars.end(), extra.begin(), extra.end());
        return work;
    }

    /// The same by a graph where one is wanted and possible.
    const Work& run(std::span<const TrainBatch> micro_batches) {
        const std::uint64_t key = graph_key(micro_batches);
        if (key == 0 || (captured_ && captured_->key != key)) captured_.reset();
        same_steps_ = key != 0 && key == last_key_ ? same_steps_ + 1 : 0;
        last_key_ = key;
        // the first steps build plans and lists, which a capture cannot
        if (!captured_ && key != 0 && same_steps_ >= steps_before_capture) capture(key, micro_batches);
        if (!captured_) return work_ = compute(micro_batches);
        for (std::size_t m = 0; m < micro_batches.size(); ++m) {
            captured_->inputs[m].images.copy_from(micro_batches[m].images);
            captured_->inputs[m].labels.copy_from(micro_batches[m].labels);
        }
        for (const auto& [parameter, gradient] : captured_->gradients) {
            parameter.zero_grad();
            parameter.accumulate(gradient);
        }
        captured_->graph->launch();
        ++graph_launches_;
        return captured_->work;
    }
    /// A number for the work that a step queues; 0 where it cannot be captured.
    std::uint64_t graph_key(std::span<const TrainBatch> micro_batches) {
        if (!options_.graph) return 0;
        if (!looked_) {
            looked_ = true;
            graph_note_ = why_no_graph();
        }
        if (!graph_note_.empty()) return 0;
        std::uint64_t key = 1469598103934665603u;  // FNV-1a
        const auto mix = [&key](std::uint64_t part) { key = (key ^ part) * 1099511628211u; };
        bool same = true;
        each_stage([&](auto& stage) {
            const std::uint64_t part = stage_replay_key(stage, steps_);
            same = same && part != 0;
            mix(part);
        });
        for (const TrainBatch& b : micro_batches) {
            for (int i = 0; i < b.images.rank(); ++i) mix(static_cast<std::uint64_t>(b.images.dim(i)));
            mix(static_cast<std::uint64_t>(b.images.format()));
            mix(static_cast<std::uint64_t>(b.images.dtype()));
        }
        return !same ? 0 : key == 0 ? 1 : key;
    }
    /// The reason why no step can be captured; empty where there is none. It goes through all parameters.
    std::string why_no_graph() const {
        if (device() == cpu_device) return "the cpu captures no graphs";
        if (!net_.replayable()) return "the network draws random numbers of each step (dropout)";
        if (const std::string loose = outside_optimizer(); !loose.empty())
            return concat("the optimizer does not have the parameter ", loose);
        bool offered = true;
        each_stage([&offered](const auto& stage) { offered = offered && offers_replay_key(stage); });
        return offered ? "" : "a stage decides at every step what it does (no replay_key)";
    }
    /// The name of a parameter of the network whose gradient the optimizer does not clear; empty if there is none.
    std::string outside_optimizer() const {
        std::set<const void*> known;
        for (const ParameterGroup& group : optimizer_.groups())
            for (const Parameter& p : group.parameters) known.insert(p.var.value().raw());
        for (const Parameter& p : net_.parameters())
            if (p.trainable && !known.count(p.var.value().raw())) return p.name;
        return known.count(w_.value().raw()) ? "" : "of the classifier";
    }
    void capture(std::uint64_t key, std::span<const TrainBatch> micro_batches) {
        auto made = std::make_unique<Captured>();
        made->key = key;
        for (const TrainBatch& b : micro_batches)
            made->inputs.push_back({b.images.clone(), b.labels.clone(), b.indices});
        try {
            made->graph = std::make_unique<DeviceGraph>(device(), [&] { made->work = compute(made->inputs); });
        } catch (const Error& e) {
            graph_note_ = e.what();
            optimizer_.zero_grad();
            return;
        }
        for (const ParameterGroup& group : optimizer_.groups())
            for (const Parameter& p : group.parameters)
                if (p.var.grad().defined()) made->gradients.emplace_back(p.var, p.var.grad());
        captured_ = std::move(made);
    }

    /// Waits for the values of a step and looks at them.
    void read(PendingStep& pending) const {
        StepReport& report = pending.report_;
        const std::vector<double> values = pending.values_->get();
        double correct = 0;
        for (std::size_t m = 0; m < pending.micro_batches_; ++m) {
            report.loss += values[3 * m];
            report.classifier_loss += values[3 * m + 1];
            correct += values[3 * m + 2];
        }
        report.accuracy = correct / static_cast<double>(pending.batch_total_);
        const std::size_t losses = 3 * pending.micro_batches_ + pending.extra_losses_;
        for (std::size_t i = 3 * pending.micro_batches_; i < losses; ++i) report.extra_loss += values[i];
        if (values.size() > losses) report.gradient_norm = values.back();
        if (!std::isfinite(report.loss + report.extra_loss) || !std::isfinite(report.classifier_loss))
            fail(ErrorCode::diverged, "trainer", "loss is not finite at step ", report.step, "; got encoder ",
                 report.loss + report.extra_loss, ", classifier ", report.classifier_loss,
                 "; hint: a lower lr, a warm-up, or clip_norm");
        if (!std::isfinite(report.gradient_norm))
            fail(ErrorCode::diverged, "trainer", "gradient norm is not finite at step ", report.step,
                 "; hint: a lower lr, a warm-up, or clip_norm");
    }
    std::unique_ptr<Readback> take_readback() {
        if (readbacks_.empty()) return std::make_unique<Readback>(device());
        std::unique_ptr<Readback> free = std::move(readbacks_.back());
        readbacks_.pop_back();
        return free;
    }

    template <class F>
    void each_stage(F&& f) const {
        std::apply([&](Stages&... s) { (f(s), ...); }, stages_);
    }

    Module& net_;
    Var w_;
    Optimizer& optimizer_;
    TrainerOptions options_;
    std::tuple<Stages&...> stages_;
    std::uint64_t steps_ = 0;

    static constexpr int steps_before_capture = 3;
    Work work_;  ///< of the step that is being queued
    std::unique_ptr<Captured> captured_;
    std::uint64_t last_key_ = 0, graph_launches_ = 0;
    int same_steps_ = 0;
    std::string graph_note_;
    bool looked_ = false;                               ///< for a reason against graphs
    std::vector<std::unique_ptr<Readback>> readbacks_;  ///< free ones
};

}  // namespace bf

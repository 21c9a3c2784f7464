#pragma once
#include <cmath>
#include <span>
#include <tuple>

#include "bf/nn/module.hpp"
#include "bf/ops/margin_softmax.hpp"
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
};

/// Options of a Trainer.
struct TrainerOptions {
    Margin margin;
    Schedule schedule;
    bool want_gradient_norm = false;
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
    StepReport step(std::span<const TrainBatch> micro_batches) {
        BF_CHECK(!micro_batches.empty(), "trainer", "a step wants at least one batch");
        std::int64_t batch_total = 0;
        for (const TrainBatch& b : micro_batches) batch_total += b.labels.numel();

        optimizer_.zero_grad();
        net_.train();
        StepReport report{.step = steps_ + 1, .lr = options_.schedule(steps_)};
        double correct = 0;
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
                                 .memory = {}};
            each_stage([&](auto& stage) { run_after_forward(stage, forward); });
            const MarginSoftmaxResult loss = margin_softmax(
                e, w_, batch.labels, {.margin = options_.margin, .batch_total = batch_total, .memory = forward.memory});
            backward(loss.loss);
            report.loss += loss.loss.value().item();
            report.classifier_loss += loss.classifier_loss.item();
            correct += loss.correct.item();
        }
        report.accuracy = correct / static_cast<double>(batch_total);
        if (!std::isfinite(report.loss) || !std::isfinite(report.classifier_loss))
            fail(ErrorCode::diverged, "trainer", "loss is not finite at step ", report.step, "; got encoder ",
                 report.loss, ", classifier ", report.classifier_loss, "; hint: a lower lr, a warm-up, or clip_norm");
        // the norm is looked at before a stage takes the step's rows in, so that a step that fails leaves all as it was
        const Tensor norm = optimizer_.prepare(options_.want_gradient_norm);
        report.gradient_norm = norm.defined() ? norm.item() : 0;
        StepState state{.step = steps_, .weight = w_};
        each_stage([&](auto& stage) { run_before_step(stage, state); });
        optimizer_.apply(report.lr);
        each_stage([&](auto& stage) { run_after_step(stage, state); });
        ++steps_;
        return report;
    }

    /// Optimizer steps done.
    std::uint64_t steps() const { return steps_; }

    /// Everything the next step depends on: network, classifier, optimizer, stages, step counter. The tensors share
    /// storage with the parts.
    StateDict state() const {
        StateDict all;
        const auto put = [&all](const std::string& prefix, const StateDict& part) {
            for (const auto& [name, tensor] : part) all[prefix + name] = tensor;
        };
        put("net.", net_.state());
        all["classifier.weight"] = w_.value();
        put("optimizer.", optimizer_.state());
        each_stage([&](auto& stage) { put("", save_stage(stage)); });
        all["trainer.steps"] = Tensor::from<std::int64_t>({static_cast<std::int64_t>(steps_)}, {1});
        return all;
    }
    void load_state(const StateDict& state) {
        const auto part = [&state](const std::string& prefix) {
            StateDict some;
            for (const auto& [name, tensor] : state)
                if (name.rfind(prefix, 0) == 0) some[name.substr(prefix.size())] = tensor;
            return some;
        };
        net_.load_state(part("net."));
        load_tensor(state, "classifier.weight", w_.value());
        optimizer_.load_state(part("optimizer."));
        each_stage([&](auto& stage) { load_stage(stage, state); });
        const Tensor steps = Tensor::zeros({1}, {.dtype = DType::i64});
        load_tensor(state, "trainer.steps", steps);
        steps_ = static_cast<std::uint64_t>(steps.data<std::int64_t>()[0]);
    }

  private:
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
};

}  // namespace bf

#pragma once
#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <vector>

#include "bf/optim/embedding_queue.hpp"
#include "bf/optim/queue_drift.hpp"
#include "bf/optim/stage.hpp"

namespace bf {

/// Switches of BroadFace (Kim, Park, Shin, ECCV 2020) and of its ablations.
struct BroadFaceOptions {
    std::int64_t queue = 8192;     ///< rows; 0 is plain training
    bool compensate = true;        ///< move old embeddings with their W row (eq. 7)
    std::uint64_t start_step = 0;  ///< optimizer step from which the queue is used; it fills before
    std::uint64_t ramp_steps = 0;  ///< steps over which the used part grows from nothing to all
    std::uint64_t age_limit = 0;   ///< oldest age in steps that is used; 0: no limit
    bool direction_only = false;   ///< compensate by unit rows of W
    bool overwrite = false;        ///< third-party variant: e* and W replace the stored pair at each use
    std::int64_t centers = 1;      ///< rows of W a class; the queue's labels are rows, each with its own past
};

/// The state of the queue at one moment.
struct QueueTelemetry {
    std::int64_t rows = 0;                    ///< filled
    std::int64_t distinct = 0;                ///< identities among them
    double mean_age = 0;                      ///< steps
    double norm_ratio = 1;                    ///< mean |e*| / |e|
    std::vector<std::int64_t> age_histogram;  ///< rows by age, ten equal bins from 0 to the oldest
};

/// BroadFace over an EmbeddingQueue. As a stage it gives the classifier its memory after the forward pass and takes in
/// the step's embeddings before the update; a hand-written loop calls memory() and push().
class BroadFace {
  public:
    /// dim: D of the embeddings.
    BroadFace(const BroadFaceOptions& options, std::int64_t dim, DType dtype = DType::f32, Device device = cpu_device)
        : options_(options), queue_(options.queue, dim, dtype, device) {}

    const BroadFaceOptions& options() const { return options_; }
    const EmbeddingQueue& queue() const { return queue_; }
    /// Rows filled.
    std::int64_t size() const { return queue_.size(); }

    /// The rows that train the classifier at this step, compensated towards w [K, D], as copies: oldest first, or the
    /// whole ring in the order of its slots. Always from the stored pair, unless `overwrite` is set.
    ClassifierMemory memory(const Tensor& w, std::uint64_t step) {
        queue_.check_weight(w);
        const std::int64_t used = usable(step);
        if (used == 0) return {};
        if (takes_whole_ring(used)) return ring_memory(w);
        const QueueRows rows = queue_.newest(used, options_.compensate);
        EmbeddingQueue::check_labels(rows.labels, w);
        if (options_.compensate) {
            compensate(rows, w, rows.embeddings);
            if (options_.overwrite) {
                kernels(w.device()).gather_rows(context(w.device()), w, rows.labels, rows.weights);
                queue_.overwrite_newest(rows.embeddings, rows.weights);
            }
        }
        return {rows.embeddings, rows.labels, used};
    }

    /// Newest rows that may be used at a step: all but those left out by start, ramp and age.
    std::int64_t usable(std::uint64_t step) const {
        if (options_.queue == 0 || step < options_.start_step) return 0;
        std::int64_t rows = size();
        if (options_.ramp_steps > 0 && step - options_.start_step < options_.ramp_steps)
            rows = std::min(rows, options_.queue * static_cast<std::int64_t>(step - options_.start_step + 1) /
                                      static_cast<std::int64_t>(options_.ramp_steps + 1));
        if (options_.age_limit > 0) {
            const auto limit = static_cast<std::int64_t>(options_.age_limit);
            std::int64_t young = 0;
            while (young < rows && queue_.age_of(queue_.sequence() - 1 - young, step) <= limit) ++young;
            rows = young;
        }
        return rows;
    }

    /// Takes in embeddings e [B, D] with rows of w: labels [B], or with several centers a class
    /// MarginSoftmaxResult::target_rows; call it before w is updated.
    /// indices [B] i64 name the images and are only kept for telemetry.
    void push(const Tensor& e, const Tensor& labels, const Tensor& w, std::uint64_t step, const Tensor& indices = {}) {
        if (options_.queue > 0) queue_.push(e, labels, w, step, indices);
    }

    /// Stage hook: the first micro-batch of a step carries the memory; the later ones count it in their mean only,
    /// so that the sum over micro-batches equals one large batch.
    void after_forward(ForwardState& state) {
        seen_ = true;
        if (state.micro_batch == 0) {
            state.memory = memory(state.weight.value(), state.step);
            used_ = state.memory.total;
        } else {
            state.memory = {{}, {}, used_};
        }
    }
    /// Stage hook: every embedding of the step enters with the W of the forward pass.
    void before_step(StepState& state) {
        BF_CHECK(!seen_ || !state.forwards.empty(), "broadface",
                 "before_step() wants the forward passes of the step; "
                 "hint: StepState::forwards");
        seen_ = false;
        for (const ForwardState& f : state.forwards)
            push(f.embeddings, f.target_rows.defined() ? f.target_rows : f.labels, state.weight.value(), state.step,
                 f.indices);
    }
    /// Stage hook: a graph of the step holds good while the queue is off, empty by choice, or used as a whole.
    std::uint64_t replay_key(std::uint64_t step) const {
        const std::int64_t used = usable(step);
        return options_.queue == 0 ? 1 : takes_whole_ring(used) ? 2 : used == 0 && step < options_.start_step ? 3 : 0;
    }
    StateDict save_state() const { return queue_.state(); }
    void load_state(const StateDict& state) { queue_.load_state(state); }

    /// What the queue holds at this step; w [K, D] is today's classifier.
    QueueTelemetry telemetry(const Tensor& w, std::uint64_t step) const {
        QueueTelemetry t;
        t.rows = size();
        if (t.rows == 0) return t;
        const QueueRows rows = queue_.newest(t.rows);
        const Tensor host_labels = rows.labels.to(cpu_device);
        const std::span<std::int64_t> labels = host_labels.span<std::int64_t>();
        std::set<std::int64_t> classes;
        for (const std::int64_t row : labels) classes.insert(row / options_.centers);
        t.distinct = static_cast<std::int64_t>(classes.size());
        const std::int64_t first = queue_.oldest(), oldest = queue_.age_of(first, step);
        t.age_histogram.assign(10, 0);
        for (std::int64_t s = first; s < queue_.sequence(); ++s) {
            const std::int64_t age = queue_.age_of(s, step);
            t.mean_age += static_cast<double>(age) / static_cast<double>(t.rows);
            ++t.age_histogram[static_cast<std::size_t>(std::min(age, oldest) * 10 / (oldest + 1))];
        }
        const Tensor moved = compensated(rows, w).to(cpu_device), stored = rows.embeddings.to(cpu_device);
        double ratio = 0;
        for (std::int64_t i = 0; i < t.rows; ++i)
            ratio += std::sqrt(dot(moved, i, moved, i) / std::max(dot(stored, i, stored, i), 1e-24));
        t.norm_ratio = ratio / static_cast<double>(t.rows);
        return t;
    }

    /// Places in the dataset of up to `count` rows spread evenly over the queue's ages; `numbers` gets their sequence
    /// numbers, for drift(). Rows without an index are left out.
    std::vector<std::int64_t> sample_indices(std::int64_t count, std::vector<std::int64_t>& numbers) const {
        std::vector<std::int64_t> images;
        numbers.clear();
        const std::int64_t n = std::min(count, size());
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t number = queue_.oldest() + i * size() / n;
            if (queue_.index_of(number) < 0) continue;
            numbers.push_back(number);
            images.push_back(queue_.index_of(number));
        }
        return images;
    }
    /// How well stored rows stand for today's embeddings: now [n, D] are the inputs of the rows `numbers` encoded now.
    /// Ages count to `step`, the steps done: a row of the last one has age 1.
    QueueDrift drift(const Tensor& w, const Tensor& now, const std::vector<std::int64_t>& numbers, std::uint64_t step,
                     std::int64_t bins = 10) const {
        const QueueRows rows = queue_.rows(numbers);
        BF_CHECK(now.shape() == rows.embeddings.shape() && now.dtype() == rows.embeddings.dtype(), "broadface",
                 "embeddings of the sampled rows; got ", now.str(), ", want ", rows.embeddings.str());
        std::vector<std::int64_t> ages;
        for (const std::int64_t number : numbers) ages.push_back(queue_.age_of(number, step));
        return drift_by_age(rows.embeddings.to(cpu_device), compensated(rows, w).to(cpu_device), now.to(cpu_device),
                            ages, bins);
    }
    /// Identities that train the classifier at this step: those of its batch (labels on the host) and of the queue
    /// rows that it uses.
    std::int64_t distinct(std::span<const std::int64_t> batch, std::uint64_t step) const {
        std::set<std::int64_t> all(batch.begin(), batch.end());
        if (const std::int64_t used = usable(step); used > 0) {
            const Tensor labels = queue_.newest(used, false).labels.to(cpu_device);
            for (const std::int64_t row : labels.span<std::int64_t>()) all.insert(row / options_.centers);
        }
        return static_cast<std::int64_t>(all.size());
    }

  private:
    /// The whole ring is read where it lies, without a copy of its rows beforehand.
    bool takes_whole_ring(std::int64_t used) const {
        return used > 0 && used == queue_.capacity() && !options_.overwrite;
    }
    ClassifierMemory ring_memory(const Tensor& w) const {
        const QueueRows ring = queue_.ring();
        EmbeddingQueue::check_labels(ring.labels, w);
        // copies: the caller may push before it is done with them
        const ClassifierMemory memory{options_.compensate
                                          ? Tensor::empty(ring.embeddings.shape(), ring.embeddings.options())
                                          : ring.embeddings.clone(),
                                      ring.labels.clone(), queue_.capacity()};
        if (options_.compensate) compensate(ring, w, memory.embeddings);
        return memory;
    }
    /// e* of rows towards w into out [n, D]; out may be the rows' embeddings.
    void compensate(const QueueRows& rows, const Tensor& w, const Tensor& out) const {
        kernels(w.device())
            .compensate(context(w.device()), {options_.direction_only}, rows.embeddings, rows.weights, rows.labels, w,
                        out);
    }
    Tensor compensated(const QueueRows& rows, const Tensor& w) const {
        queue_.check_weight(w);
        EmbeddingQueue::check_labels(rows.labels, w);
        Tensor out = Tensor::empty(rows.embeddings.shape(), rows.embeddings.options());
        compensate(rows, w, out);
        return out;
    }
    /// Row i of a times row k of b.
    static double dot(const Tensor& a, std::int64_t i, const Tensor& b, std::int64_t k) {
        double sum = 0;
        visit_real(a.dtype(), "broadface", [&]<class T>() {
            const T *x = a.data<T>() + i * a.dim(1), *y = b.data<T>() + k * b.dim(1);
            for (std::int64_t d = 0; d < a.dim(1); ++d) sum += static_cast<double>(x[d]) * static_cast<double>(y[d]);
        });
        return sum;
    }

    BroadFaceOptions options_;
    EmbeddingQueue queue_;
    std::int64_t used_ = 0;
    bool seen_ = false;  ///< a forward pass since the last step
};

}  // namespace bf

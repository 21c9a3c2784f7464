#pragma once
#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

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
};

/// The state of the queue at one moment.
struct QueueTelemetry {
    std::int64_t rows = 0;                    ///< filled
    std::int64_t distinct = 0;                ///< identities among them
    double mean_age = 0;                      ///< steps
    double norm_ratio = 1;                    ///< mean |e*| / |e|
    std::vector<std::int64_t> age_histogram;  ///< rows by age, ten equal bins from 0 to the oldest
};

/// Mean cosine between queue rows and the same images encoded now.
struct QueueDrift {
    double compensated = 0, plain = 0;
};

/// The embedding queue: raw embeddings with the W rows of their moment, oldest out first. As a stage it gives the
/// classifier its memory after the forward pass and takes in the step's embeddings before the update; a hand-written
/// loop calls memory() and push(). Rows are named by sequence number.
class BroadFace {
  public:
    /// dim: D of the embeddings.
    BroadFace(const BroadFaceOptions& options, std::int64_t dim, DType dtype = DType::f32)
        : options_(options), dim_(dim), dtype_(dtype) {
        BF_CHECK(options.queue >= 0 && dim > 0, "broadface", "queue rows and dim; got ", options.queue, " and ", dim);
        embeddings_ = Tensor::zeros({options.queue, dim}, {.dtype = dtype});
        snapshots_ = Tensor::zeros({options.queue, dim}, {.dtype = dtype});
        labels_ = Tensor::zeros({options.queue}, {.dtype = DType::i64});
        steps_ = Tensor::zeros({options.queue}, {.dtype = DType::i64});
        indices_ = Tensor::zeros({options.queue}, {.dtype = DType::i64});
    }

    const BroadFaceOptions& options() const { return options_; }
    /// Rows filled.
    std::int64_t size() const { return std::min(sequence_, options_.queue); }
    /// Rows pushed so far; row s of the sequence lies at s modulo the queue size.
    std::int64_t sequence() const { return sequence_; }

    /// The rows that train the classifier at this step, compensated towards w [K, D]; newest last.
    ClassifierMemory memory(const Tensor& w, std::uint64_t step) {
        const std::int64_t used = usable(step);
        if (used == 0) return {};
        gather(sequence_ - used, used);
        const Tensor e = gathered_e_.rows(0, used), then = gathered_w_.rows(0, used), y = gathered_y_.rows(0, used);
        if (options_.compensate) {
            const Device device = w.device();
            kernels(device).compensate(context(device), {options_.direction_only}, e, then, y, w, e);
            if (options_.overwrite) overwrite(sequence_ - used, used, e, w);
        }
        return {e, y, used};
    }

    /// Takes in embeddings e [B, D] with the rows of w that belong to labels [B]; call it before w is updated.
    /// indices [B] i64 name the images and are only kept for telemetry.
    void push(const Tensor& e, const Tensor& labels, const Tensor& w, std::uint64_t step, const Tensor& indices = {}) {
        if (options_.queue == 0) return;
        BF_CHECK(e.rank() == 2 && e.dim(1) == dim_ && e.dtype() == dtype_ && labels.numel() == e.dim(0), "broadface",
                 "rows do not fit the queue; got ", e.str(), ", labels ", labels.str(), ", want [B, ", dim_, "] ",
                 name_of(dtype_));
        const std::size_t row = static_cast<std::size_t>(dim_) * size_of(dtype_);
        const auto* from = static_cast<const char*>(e.host());
        const auto* weight = static_cast<const char*>(w.host());
        for (std::int64_t i = 0; i < e.dim(0); ++i, ++sequence_) {
            const std::int64_t at = sequence_ % options_.queue, y = labels.data<std::int64_t>()[i];
            std::memcpy(static_cast<char*>(embeddings_.host()) + static_cast<std::size_t>(at) * row,
                        from + static_cast<std::size_t>(i) * row, row);
            std::memcpy(static_cast<char*>(snapshots_.host()) + static_cast<std::size_t>(at) * row,
                        weight + static_cast<std::size_t>(y) * row, row);
            labels_.data<std::int64_t>()[at] = y;
            steps_.data<std::int64_t>()[at] = static_cast<std::int64_t>(step);
            indices_.data<std::int64_t>()[at] = indices.defined() ? indices.data<std::int64_t>()[i] : -1;
        }
    }

    /// Stage hook: the first micro-batch of a step carries the memory; the later ones count it in their mean only,
    /// so that the sum over micro-batches equals one large batch.
    void after_forward(ForwardState& state) {
        if (state.micro_batch == 0) {
            pending_.clear();
            state.memory = memory(state.weight.value(), state.step);
            used_ = state.memory.total;
        } else {
            state.memory = {{}, {}, used_};
        }
        pending_.push_back({state.embeddings, state.labels, state.indices});
    }
    /// Stage hook: every embedding of the step enters with the W of the forward pass.
    void before_step(StepState& state) {
        for (const Pending& p : pending_) push(p.embeddings, p.labels, state.weight.value(), state.step, p.indices);
        pending_.clear();
    }

    /// The ring and its counter, for the checkpoint; tensors share storage with the queue.
    StateDict save_state() const {
        return {{"queue.embeddings", embeddings_}, {"queue.snapshots", snapshots_},
                {"queue.labels", labels_},         {"queue.steps", steps_},
                {"queue.indices", indices_},       {"queue.sequence", Tensor::from<std::int64_t>({sequence_}, {1})}};
    }
    /// Continues a saved queue. One of another size gives its newest rows; another dim is an error.
    void load_state(const StateDict& state) {
        const Tensor sequence = Tensor::zeros({1}, {.dtype = DType::i64});
        load_tensor(state, "queue.sequence", sequence);
        const std::int64_t pushed = sequence.data<std::int64_t>()[0];
        const Tensor &e = state.at("queue.embeddings"), &w = state.at("queue.snapshots");
        BF_CHECK_DATA(e.rank() == 2 && e.dim(1) == dim_ && w.shape() == e.shape() && e.dtype() == dtype_, "broadface",
                      "saved queue differs; got ", e.str(), ", want [rows, ", dim_, "] ", name_of(dtype_));
        const std::int64_t rows = e.dim(0), keep = std::min({options_.queue, rows, pushed});
        const std::size_t row = static_cast<std::size_t>(dim_) * size_of(dtype_);
        sequence_ = pushed;
        for (std::int64_t s = pushed - keep; s < pushed; ++s) {
            const auto from = static_cast<std::size_t>(s % rows), to = static_cast<std::size_t>(s % options_.queue);
            std::memcpy(static_cast<char*>(embeddings_.host()) + to * row,
                        static_cast<const char*>(e.host()) + from * row, row);
            std::memcpy(static_cast<char*>(snapshots_.host()) + to * row,
                        static_cast<const char*>(w.host()) + from * row, row);
            labels_.data<std::int64_t>()[to] = state.at("queue.labels").data<std::int64_t>()[from];
            steps_.data<std::int64_t>()[to] = state.at("queue.steps").data<std::int64_t>()[from];
            indices_.data<std::int64_t>()[to] = state.at("queue.indices").data<std::int64_t>()[from];
        }
        // a larger queue than the saved one starts again with the rows that there are
        if (keep < std::min(options_.queue, pushed)) restart(keep);
    }

    /// What the queue holds at this step; w [K, D] is today's classifier.
    QueueTelemetry telemetry(const Tensor& w, std::uint64_t step) {
        QueueTelemetry t;
        t.rows = size();
        if (t.rows == 0) return t;
        std::set<std::int64_t> seen;
        std::int64_t oldest = 0;
        for (std::int64_t i = 0; i < t.rows; ++i) {
            const std::int64_t age = static_cast<std::int64_t>(step) - steps_.data<std::int64_t>()[i];
            seen.insert(labels_.data<std::int64_t>()[i]);
            t.mean_age += static_cast<double>(age) / static_cast<double>(t.rows);
            oldest = std::max(oldest, age);
        }
        t.distinct = static_cast<std::int64_t>(seen.size());
        t.age_histogram.assign(10, 0);
        for (std::int64_t i = 0; i < t.rows; ++i) {
            const std::int64_t age = static_cast<std::int64_t>(step) - steps_.data<std::int64_t>()[i];
            ++t.age_histogram[static_cast<std::size_t>(age * 10 / (oldest + 1))];
        }
        double ratio = 0;
        const Tensor moved = compensated_rows(w, 0, t.rows);
        visit_real(dtype_, "broadface", [&]<class T>() {
            for (std::int64_t i = 0; i < t.rows; ++i) {
                double before = 0, after = 0;
                for (std::int64_t d = 0; d < dim_; ++d) {
                    const auto a = static_cast<double>(embeddings_.data<T>()[i * dim_ + d]);
                    const auto b = static_cast<double>(moved.data<T>()[i * dim_ + d]);
                    before += a * a;
                    after += b * b;
                }
                ratio += std::sqrt(after / std::max(before, 1e-24));
            }
        });
        t.norm_ratio = ratio / static_cast<double>(t.rows);
        return t;
    }

    /// Places in the dataset of up to `count` rows spread evenly over the queue's ages; `slots` gets their places in
    /// the ring, for drift(). Rows without an index are left out.
    std::vector<std::int64_t> sample_indices(std::int64_t count, std::vector<std::int64_t>& slots) const {
        std::vector<std::int64_t> images;
        slots.clear();
        const std::int64_t filled = size(), n = std::min(count, filled);
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t slot = (sequence_ - filled + i * filled / n) % options_.queue;
            if (indices_.data<std::int64_t>()[slot] < 0) continue;
            slots.push_back(slot);
            images.push_back(indices_.data<std::int64_t>()[slot]);
        }
        return images;
    }
    /// How well stored rows stand for today's embeddings: now [n, D] are the images of `slots` encoded now.
    QueueDrift drift(const Tensor& w, const Tensor& now, const std::vector<std::int64_t>& slots) {
        QueueDrift out;
        visit_real(dtype_, "broadface", [&]<class T>() {
            for (std::size_t i = 0; i < slots.size(); ++i) {
                const Tensor moved = compensated_rows(w, slots[i], slots[i] + 1);
                const T* fresh = now.data<T>() + static_cast<std::int64_t>(i) * dim_;
                out.plain += cosine(embeddings_.data<T>() + slots[i] * dim_, fresh);
                out.compensated += cosine(moved.data<T>(), fresh);
            }
        });
        const double n = std::max<double>(1, static_cast<double>(slots.size()));
        return {out.compensated / n, out.plain / n};
    }

  private:
    struct Pending {
        Tensor embeddings, labels, indices;
    };

    /// Newest rows that may be used at a step.
    std::int64_t usable(std::uint64_t step) const {
        if (options_.queue == 0 || step < options_.start_step) return 0;
        std::int64_t rows = size();
        if (options_.ramp_steps > 0 && step - options_.start_step < options_.ramp_steps)
            rows = std::min(rows, options_.queue * static_cast<std::int64_t>(step - options_.start_step + 1) /
                                      static_cast<std::int64_t>(options_.ramp_steps + 1));
        if (options_.age_limit > 0) {
            std::int64_t young = 0;
            while (young < rows && step - static_cast<std::uint64_t>(
                                              steps_.data<std::int64_t>()[(sequence_ - 1 - young) % options_.queue]) <=
                                       options_.age_limit)
                ++young;
            rows = young;
        }
        return rows;
    }

    /// Copies rows of the sequence [first, first + count) in order into the gather buffers.
    void gather(std::int64_t first, std::int64_t count) {
        if (!gathered_e_.defined()) {
            gathered_e_ = Tensor::empty(embeddings_.shape(), embeddings_.options());
            gathered_w_ = Tensor::empty(embeddings_.shape(), embeddings_.options());
            gathered_y_ = Tensor::empty(labels_.shape(), labels_.options());
        }
        for (std::int64_t done = 0; done < count;) {  // at most two runs: up to the end of the ring, and the rest
            const std::int64_t at = (first + done) % options_.queue, run = std::min(count - done, options_.queue - at);
            gathered_e_.rows(done, done + run).copy_from(embeddings_.rows(at, at + run));
            gathered_w_.rows(done, done + run).copy_from(snapshots_.rows(at, at + run));
            gathered_y_.rows(done, done + run).copy_from(labels_.rows(at, at + run));
            done += run;
        }
    }
    void overwrite(std::int64_t first, std::int64_t count, const Tensor& e, const Tensor& w) {
        const Device device = w.device();
        kernels(device).gather_rows(context(device), w, gathered_y_.rows(0, count), gathered_w_.rows(0, count));
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t at = (first + i) % options_.queue;
            embeddings_.rows(at, at + 1).copy_from(e.rows(i, i + 1));
            snapshots_.rows(at, at + 1).copy_from(gathered_w_.rows(i, i + 1));
        }
    }
    /// e* of ring slots [begin, end).
    Tensor compensated_rows(const Tensor& w, std::int64_t begin, std::int64_t end) const {
        Tensor out = Tensor::empty({end - begin, dim_}, {.dtype = dtype_});
        const Device device = w.device();
        kernels(device).compensate(context(device), {options_.direction_only}, embeddings_.rows(begin, end),
                                   snapshots_.rows(begin, end), labels_.rows(begin, end), w, out);
        return out;
    }
    template <class T>
    double cosine(const T* a, const T* b) const {
        double ab = 0, aa = 0, bb = 0;
        for (std::int64_t d = 0; d < dim_; ++d) {
            ab += static_cast<double>(a[d]) * static_cast<double>(b[d]);
            aa += static_cast<double>(a[d]) * static_cast<double>(a[d]);
            bb += static_cast<double>(b[d]) * static_cast<double>(b[d]);
        }
        return ab / std::max(1e-24, std::sqrt(aa * bb));
    }
    /// Renumbers the newest `keep` rows as 0..keep-1.
    void restart(std::int64_t keep) {
        const auto turned = [&](const Tensor& t) {
            const Tensor copy = t.clone();
            for (std::int64_t i = 0; i < keep; ++i) {
                const std::int64_t from = (sequence_ - keep + i) % options_.queue;
                t.rows(i, i + 1).copy_from(copy.rows(from, from + 1));
            }
        };
        for (const Tensor& t : {embeddings_, snapshots_, labels_, steps_, indices_}) turned(t);
        sequence_ = keep;
    }

    BroadFaceOptions options_;
    std::int64_t dim_;
    DType dtype_;
    Tensor embeddings_, snapshots_, labels_, steps_, indices_;
    Tensor gathered_e_, gathered_w_, gathered_y_;
    std::vector<Pending> pending_;
    std::int64_t sequence_ = 0, used_ = 0;
};

}  // namespace bf

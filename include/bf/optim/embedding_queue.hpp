#pragma once
#include <algorithm>
#include <vector>

#include "bf/autograd/parameter.hpp"

namespace bf {

/// Rows of an EmbeddingQueue: copies, oldest first, unless said otherwise.
struct QueueRows {
    Tensor embeddings;  ///< [n, D] raw, as pushed
    Tensor weights;     ///< [n, D] the classifier's row of the label at that moment; undefined unless asked for
    Tensor labels;      ///< [n] i64
    Tensor steps;       ///< [n] i64 optimizer step of the push, on the host
    Tensor indices;     ///< [n] i64 places in the dataset, -1 where unknown, on the host
};

/// A ring of past embeddings, each with the classifier's row of its label at that moment; the oldest leave first. Where
/// a class has several centers, its rows of W are told apart: a label is the row that the embedding belongs to. Rows
/// are named by sequence number: row s is the s-th that was pushed. It stores tensors, so it cannot keep a graph alive.
class EmbeddingQueue {
  public:
    /// capacity: rows, may be 0; dim: D of the embeddings. Rows and labels lie on the device, steps and indices on the
    /// host, so that neither pushing nor looking at ages waits for the device.
    EmbeddingQueue(std::int64_t capacity, std::int64_t dim, DType dtype = DType::f32, Device device = cpu_device)
        : capacity_(capacity), dim_(dim), dtype_(dtype), device_(device) {
        BF_CHECK(capacity >= 0 && dim > 0, "embedding queue", "rows and dim; got ", capacity, " and ", dim);
        embeddings_ = Tensor::zeros({capacity, dim}, {dtype, device});
        weights_ = Tensor::zeros({capacity, dim}, {dtype, device});
        labels_ = Tensor::zeros({capacity}, {DType::i64, device});
        steps_ = Tensor::zeros({capacity}, {.dtype = DType::i64});
        indices_ = Tensor::zeros({capacity}, {.dtype = DType::i64});
    }
    // a copy would share the ring but not the counters
    EmbeddingQueue(const EmbeddingQueue&) = delete;
    EmbeddingQueue& operator=(const EmbeddingQueue&) = delete;
    EmbeddingQueue(EmbeddingQueue&&) = default;
    EmbeddingQueue& operator=(EmbeddingQueue&&) = default;

    std::int64_t capacity() const { return capacity_; }
    std::int64_t dim() const { return dim_; }
    DType dtype() const { return dtype_; }
    /// Rows pushed so far.
    std::int64_t sequence() const { return sequence_; }
    /// Sequence number of the oldest row that is there.
    std::int64_t oldest() const { return std::max(first_, sequence_ - capacity_); }
    /// Rows that are there: [oldest(), sequence()).
    std::int64_t size() const { return sequence_ - oldest(); }

    /// Takes in e [B, D] with the rows of w [K, D] that belong to labels [B] i64. indices [B] i64 may be undefined.
    void push(const Tensor& e, const Tensor& labels, const Tensor& w, std::uint64_t step, const Tensor& indices = {}) {
        check_weight(w);
        BF_CHECK(e.rank() == 2 && e.dim(1) == dim_ && e.dtype() == dtype_ && labels.shape() == Shape{e.dim(0)},
                 "embedding queue", "rows do not fit; got ", e.str(), ", labels ", labels.str(), ", want [B, ", dim_,
                 "] ", name_of(dtype_));
        BF_CHECK(!indices.defined() || indices.shape() == labels.shape(), "embedding queue", "indices; got ",
                 indices.str(), ", want ", labels.shape());
        check_labels(labels, w);  // before anything is written: a bad row leaves the ring whole
        if (capacity_ == 0) return;
        Tensor then = Tensor::empty(e.shape(), e.options());
        kernels(w.device()).gather_rows(context(w.device()), w, labels, then);
        const std::int64_t kept = std::min(e.dim(0), capacity_), skipped = e.dim(0) - kept;
        for_runs(sequence_ + skipped, kept, [&](std::int64_t row, std::int64_t slot, std::int64_t count) {
            const std::int64_t from = skipped + row;
            embeddings_.rows(slot, slot + count).copy_from(e.rows(from, from + count));
            weights_.rows(slot, slot + count).copy_from(then.rows(from, from + count));
            labels_.rows(slot, slot + count).copy_from(labels.rows(from, from + count));
            std::fill_n(steps_.data<std::int64_t>() + slot, count, static_cast<std::int64_t>(step));
            if (indices.defined())
                indices_.rows(slot, slot + count).copy_from(indices.rows(from, from + count));
            else
                std::fill_n(indices_.data<std::int64_t>() + slot, count, -1);
        });
        sequence_ += e.dim(0);
    }

    /// The ring itself, in the order of its slots; only when it is full. The tensors share its memory.
    QueueRows ring() const {
        BF_CHECK(size() == capacity_, "embedding queue", "the ring is not full; got ", size(), " of ", capacity_,
                 " rows");
        return {embeddings_, weights_, labels_, steps_, indices_};
    }
    /// Embeddings by slot, [capacity, D]: row s lies in slot s % capacity. The tensor shares the ring's memory.
    const Tensor& slots() const { return embeddings_; }
    /// The newest n rows.
    QueueRows newest(std::int64_t n, bool with_weights = true) const {
        QueueRows out = empty_rows(n, with_weights);
        for_runs(sequence_ - n, n,
                 [&](std::int64_t row, std::int64_t slot, std::int64_t count) { copy_rows(slot, count, out, row); });
        return out;
    }
    /// The rows with these sequence numbers.
    QueueRows rows(const std::vector<std::int64_t>& numbers) const {
        QueueRows out = empty_rows(static_cast<std::int64_t>(numbers.size()), true);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            BF_CHECK(numbers[i] >= oldest() && numbers[i] < sequence_, "embedding queue", "row ", numbers[i],
                     " is not there; got rows ", oldest(), "..", sequence_ - 1);
            copy_rows(numbers[i] % capacity_, 1, out, static_cast<std::int64_t>(i));
        }
        return out;
    }
    /// Replaces embeddings and weights of the newest rows.
    void overwrite_newest(const Tensor& e, const Tensor& weights) {
        for_runs(sequence_ - e.dim(0), e.dim(0), [&](std::int64_t row, std::int64_t slot, std::int64_t count) {
            embeddings_.rows(slot, slot + count).copy_from(e.rows(row, row + count));
            weights_.rows(slot, slot + count).copy_from(weights.rows(row, row + count));
        });
    }
    std::int64_t index_of(std::int64_t number) const { return indices_.data<std::int64_t>()[number % capacity_]; }
    /// Age in steps; 0 for a row of a later step, as a loop that starts counting again finds them.
    std::int64_t age_of(std::int64_t number, std::uint64_t step) const {
        const std::int64_t stored = steps_.data<std::int64_t>()[number % capacity_];
        return std::max<std::int64_t>(0, static_cast<std::int64_t>(step) - stored);
    }

    /// The ring and its counters, for the checkpoint; tensors share storage with the queue.
    StateDict state() const {
        return {{"queue.embeddings", embeddings_},
                {"queue.weights", weights_},
                {"queue.labels", labels_},
                {"queue.steps", steps_},
                {"queue.indices", indices_},
                {"queue.sequence", Tensor::from<std::int64_t>({sequence_, oldest()}, {2})}};
    }
    /// Continues a saved queue. A capacity other than the saved one keeps the newest rows that fit; another dim or
    /// dtype, or a damaged state, is a data Error, and the queue stays as it was.
    void load_state(const StateDict& state) {
        const auto saved = [&](const char* name, DType dtype, int rank) -> const Tensor& {
            const auto it = state.find(name);
            BF_CHECK_DATA(it != state.end(), "embedding queue", "saved state has no ", name);
            BF_CHECK_DATA(it->second.dtype() == dtype && it->second.rank() == rank, "embedding queue", "saved ", name,
                          " differs; got ", it->second.str(), ", want ", name_of(dtype), " of rank ", rank);
            return it->second;
        };
        const Tensor &e = saved("queue.embeddings", dtype_, 2), &w = saved("queue.weights", dtype_, 2),
                     &y = saved("queue.labels", DType::i64, 1), &steps = saved("queue.steps", DType::i64, 1),
                     &indices = saved("queue.indices", DType::i64, 1),
                     &counters = saved("queue.sequence", DType::i64, 1);
        const std::int64_t rows = e.dim(0);
        BF_CHECK_DATA(e.dim(1) == dim_ && w.shape() == e.shape(), "embedding queue", "saved rows differ; got ", e.str(),
                      " and ", w.str(), ", want [rows, ", dim_, "]");
        BF_CHECK_DATA(counters.numel() == 2 && y.numel() == rows && steps.numel() == rows && indices.numel() == rows,
                      "embedding queue", "saved state is damaged: its parts have different lengths");
        const std::int64_t sequence = counters.data<std::int64_t>()[0], first = counters.data<std::int64_t>()[1];
        BF_CHECK_DATA(first >= 0 && first <= sequence, "embedding queue", "saved counters; got ", first, "..",
                      sequence);
        sequence_ = sequence;
        first_ = std::max({first, sequence - rows, sequence - capacity_});
        for (std::int64_t s = first_; s < sequence_; ++s) {
            const auto copy = [from = s % rows, to = s % capacity_](const Tensor& old, const Tensor& ring) {
                ring.rows(to, to + 1).copy_from(old.rows(from, from + 1));
            };
            copy(e, embeddings_);
            copy(w, weights_);
            copy(y, labels_);
            copy(steps, steps_);
            copy(indices, indices_);
        }
    }

    /// Throws unless w can be the classifier of these rows: [K, D] of the queue's dtype.
    void check_weight(const Tensor& w) const {
        BF_CHECK(w.rank() == 2 && w.dim(1) == dim_ && w.dtype() == dtype_, "embedding queue", "weight; got ", w.str(),
                 ", want [K, ", dim_, "] ", name_of(dtype_));
    }
    /// Throws unless every label is a row of w.
    static void check_labels(const Tensor& labels, const Tensor& w) {
        if (labels.device() != cpu_device) return;  // the loader checked them; looking again would wait for the device
        for (const std::int64_t y : labels.span<std::int64_t>())
            BF_CHECK(y >= 0 && y < w.dim(0), "embedding queue", "label out of range; got ", y, ", want 0..",
                     w.dim(0) - 1);
    }

  private:
    /// body(row, slot, count) for the rows of the sequence [first, first + n), n <= capacity: up to the end of the
    /// ring, and from its start.
    template <class F>
    void for_runs(std::int64_t first, std::int64_t n, F&& body) const {
        for (std::int64_t done = 0; done < n;) {
            const std::int64_t slot = (first + done) % capacity_, count = std::min(n - done, capacity_ - slot);
            body(done, slot, count);
            done += count;
        }
    }
    QueueRows empty_rows(std::int64_t n, bool with_weights) const {
        const TensorOptions real{dtype_, device_}, whole{.dtype = DType::i64};
        return {Tensor::empty({n, dim_}, real), with_weights ? Tensor::empty({n, dim_}, real) : Tensor(),
                Tensor::empty({n}, {DType::i64, device_}), Tensor::empty({n}, whole), Tensor::empty({n}, whole)};
    }
    /// Ring slots [slot, slot + count) into rows of `out` from `row` on.
    void copy_rows(std::int64_t slot, std::int64_t count, const QueueRows& out, std::int64_t row) const {
        const auto copy = [&](const Tensor& ring, const Tensor& to) {
            if (to.defined()) to.rows(row, row + count).copy_from(ring.rows(slot, slot + count));
        };
        copy(embeddings_, out.embeddings);
        copy(weights_, out.weights);
        copy(labels_, out.labels);
        copy(steps_, out.steps);
        copy(indices_, out.indices);
    }

    std::int64_t capacity_, dim_;
    DType dtype_;
    Device device_;
    Tensor embeddings_, weights_, labels_, steps_, indices_;
    std::int64_t sequence_ = 0, first_ = 0;  ///< rows below first_ were never there (a larger queue than the saved one)
};

}  // namespace bf

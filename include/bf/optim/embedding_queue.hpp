#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

#include "bf/autograd/parameter.hpp"

namespace bf {

/// Rows taken out of an EmbeddingQueue, copied: n rows, oldest first.
struct QueueRows {
    Tensor embeddings;  ///< [n, D] raw, as pushed
    Tensor weights;     ///< [n, D] the classifier's row of the label at that moment; undefined unless asked for
    Tensor labels;      ///< [n] i64
    Tensor steps;       ///< [n] i64 optimizer step of the push
    Tensor indices;     ///< [n] i64 places in the dataset, -1 where unknown
};

/// A ring of past embeddings, each with the classifier's row of its label at that moment; the oldest leave first. Rows
/// are named by sequence number: row s is the s-th that was pushed. It stores tensors, so it cannot keep a graph alive.
class EmbeddingQueue {
  public:
    /// capacity: rows, may be 0; dim: D of the embeddings.
    EmbeddingQueue(std::int64_t capacity, std::int64_t dim, DType dtype = DType::f32)
        : capacity_(capacity), dim_(dim), dtype_(dtype) {
        BF_CHECK(capacity >= 0 && dim > 0, "embedding queue", "rows and dim; got ", capacity, " and ", dim);
        embeddings_ = Tensor::zeros({capacity, dim}, {.dtype = dtype});
        weights_ = Tensor::zeros({capacity, dim}, {.dtype = dtype});
        labels_ = Tensor::zeros({capacity}, {.dtype = DType::i64});
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
        for (std::int64_t i = 0; i < e.dim(0); ++i, ++sequence_) {
            const std::int64_t slot = sequence_ % capacity_, y = labels.data<std::int64_t>()[i];
            copy_row(e, i, embeddings_, slot);
            copy_row(w, y, weights_, slot);
            labels_.data<std::int64_t>()[slot] = y;
            steps_.data<std::int64_t>()[slot] = static_cast<std::int64_t>(step);
            indices_.data<std::int64_t>()[slot] = indices.defined() ? indices.data<std::int64_t>()[i] : -1;
        }
    }

    /// The rows with these sequence numbers; each must be there.
    QueueRows rows(const std::vector<std::int64_t>& numbers, bool with_weights = true) const {
        return take(static_cast<std::int64_t>(numbers.size()), with_weights,
                    [&](std::int64_t i) { return numbers[static_cast<std::size_t>(i)]; });
    }
    /// The newest n rows.
    QueueRows newest(std::int64_t n, bool with_weights = true) const {
        return take(n, with_weights, [&](std::int64_t i) { return sequence_ - n + i; });
    }
    /// Replaces embeddings and weights of the newest rows.
    void overwrite_newest(const Tensor& e, const Tensor& weights) {
        for (std::int64_t i = 0; i < e.dim(0); ++i) {
            const std::int64_t slot = (sequence_ - e.dim(0) + i) % capacity_;
            copy_row(e, i, embeddings_, slot);
            copy_row(weights, i, weights_, slot);
        }
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
                {"queue.sequence", Tensor::from<std::int64_t>({sequence_, first_}, {2})}};
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
            const std::int64_t from = s % rows, to = s % capacity_;
            copy_row(e, from, embeddings_, to);
            copy_row(w, from, weights_, to);
            labels_.data<std::int64_t>()[to] = y.data<std::int64_t>()[from];
            steps_.data<std::int64_t>()[to] = steps.data<std::int64_t>()[from];
            indices_.data<std::int64_t>()[to] = indices.data<std::int64_t>()[from];
        }
    }

    /// Throws unless w can be the classifier of these rows: [K, D] of the queue's dtype.
    void check_weight(const Tensor& w) const {
        BF_CHECK(w.rank() == 2 && w.dim(1) == dim_ && w.dtype() == dtype_, "embedding queue", "weight; got ", w.str(),
                 ", want [K, ", dim_, "] ", name_of(dtype_));
    }
    /// Throws unless every label is a row of w.
    static void check_labels(const Tensor& labels, const Tensor& w) {
        for (const std::int64_t y : labels.span<std::int64_t>())
            BF_CHECK(y >= 0 && y < w.dim(0), "embedding queue", "label out of range; got ", y, ", want 0..",
                     w.dim(0) - 1);
    }

  private:
    static void copy_row(const Tensor& from, std::int64_t i, const Tensor& to, std::int64_t k) {
        to.rows(k, k + 1).copy_from(from.rows(i, i + 1));
    }
    template <class F>
    QueueRows take(std::int64_t n, bool with_weights, F&& number) const {
        const TensorOptions whole{.dtype = DType::i64};
        QueueRows out{Tensor::empty({n, dim_}, {.dtype = dtype_}),
                      with_weights ? Tensor::empty({n, dim_}, {.dtype = dtype_}) : Tensor(), Tensor::empty({n}, whole),
                      Tensor::empty({n}, whole), Tensor::empty({n}, whole)};
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t s = number(i);
            BF_CHECK(s >= oldest() && s < sequence_, "embedding queue", "row ", s, " is not there; got rows ", oldest(),
                     "..", sequence_ - 1);
            const std::int64_t slot = s % capacity_;
            copy_row(embeddings_, slot, out.embeddings, i);
            if (with_weights) copy_row(weights_, slot, out.weights, i);
            out.labels.data<std::int64_t>()[i] = labels_.data<std::int64_t>()[slot];
            out.steps.data<std::int64_t>()[i] = steps_.data<std::int64_t>()[slot];
            out.indices.data<std::int64_t>()[i] = indices_.data<std::int64_t>()[slot];
        }
        return out;
    }

    std::int64_t capacity_, dim_;
    DType dtype_;
    Tensor embeddings_, weights_, labels_, steps_, indices_;
    std::int64_t sequence_ = 0, first_ = 0;  ///< rows below first_ were never there (a larger queue than the saved one)
};

}  // namespace bf

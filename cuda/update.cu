#include <mutex>

#include "bf/math/multi_tensor.hpp"
#include "bf/math/reduce.hpp"
#include "fold.cuh"
#include "pinned.hpp"

// Norms and updates over all parameters: one launch for all tensors of a dtype. The device keeps a list of items
// (pointers) and of chunks for each set of tensor sizes; it is sent again only when a pointer has changed.

namespace bf::cuda {
namespace {

/// Host memory that a copy may still read.
struct Staging {
    void* host = nullptr;
    EventHandle done;
    bool captured = false;  ///< part of a graph, which reads it at every launch: never written again
};

/// The lists of one set of tensor sizes. Kept to the end of the program: a captured graph may use them.
class TensorList {
  public:
    /// rule: what the list serves, so that two uses of the same tensors do not send their lists in turn.
    TensorList(Context& context, int rule, std::size_t item_bytes, const std::vector<std::int64_t>& sizes)
        : device_(context.device), rule_(rule), item_bytes_(item_bytes), sizes_(sizes) {
        std::vector<math::ListChunk> all;
        for (std::size_t i = 0; i < sizes.size(); ++i)
            math::cut_chunks(static_cast<std::int64_t>(i), sizes[i],
                             [&](const math::ListChunk& c) { all.push_back(c); });
        refuse_in_capture(backend(context), "optimizer", "the first update of a set of tensors",
                          "run a step before the capture");
        count_ = static_cast<std::int64_t>(all.size());
        const std::size_t bytes = sizes.size() * item_bytes;
        items_ = scratch(context, {static_cast<std::int64_t>(bytes)}, DType::u8);
        chunks_ = scratch(context, {static_cast<std::int64_t>(all.size() * sizeof(math::ListChunk))}, DType::u8);
        if (all.empty()) return;
        for (int i = 0; i < 3; ++i) add_staging();
        // the source is pageable: the call returns when the list has been staged
        BF_CUDA(cudaMemcpyAsync(chunks_.raw(), all.data(), chunks_.bytes(), cudaMemcpyHostToDevice,
                                backend(context).stream),
                "chunks ", count_);
    }
    bool serves(const Context& context, int rule, std::size_t item_bytes,
                const std::vector<std::int64_t>& sizes) const {
        return device_ == context.device && rule_ == rule && item_bytes_ == item_bytes && sizes_ == sizes;
    }
    std::int64_t chunk_count() const { return count_; }
    const math::ListChunk* chunks() const { return static_cast<const math::ListChunk*>(chunks_.raw()); }

    /// The items on the device, sent if they differ from those sent last. Once a graph sends lists of its own, what the
    /// device holds is not known any more.
    template <class Item>
    const Item* send(Context& context, const std::vector<Item>& items) {
        const std::size_t bytes = items.size() * sizeof(Item);
        const cudaStream_t stream = backend(context).stream;
        const bool capturing = backend(context).capturing();
        captured_ = captured_ || capturing;
        const bool same = !captured_ && last_.size() == bytes && std::memcmp(last_.data(), items.data(), bytes) == 0;
        if (!same) {
            Staging& staging = next_staging(capturing);
            std::memcpy(staging.host, items.data(), bytes);
            BF_CUDA(cudaMemcpyAsync(items_.raw(), staging.host, bytes, cudaMemcpyHostToDevice, stream), "items ",
                    items.size());
            const char* data = static_cast<const char*>(staging.host);
            staging.captured = capturing;
            if (!capturing) BF_CUDA(cudaEventRecord(staging.done.get(), stream), "items ", items.size());
            last_.assign(data, data + bytes);
        }
        return static_cast<const Item*>(items_.raw());
    }

  private:
    void add_staging() {
        Staging s;
        const std::size_t bytes = sizes_.size() * item_bytes_;
        s.host = pinned_allocator().allocate(bytes);
        s.done = make_event();
        staging_.push_back(std::move(s));
    }
    Staging& next_staging(bool capturing) {
        const auto free = std::count_if(staging_.begin(), staging_.end(), [](const Staging& s) { return !s.captured; });
        BF_CHECK(free > 0 || !capturing, "optimizer", "more graphs captured than lists kept; hint: a step outside ",
                 "capture between two captures");
        for (auto have = free; !capturing && have < 3; ++have) add_staging();
        do next_ = (next_ + 1) % staging_.size();
        while (staging_[next_].captured);
        Staging& s = staging_[next_];
        // three steps old in a training loop: done long ago, unless the host runs that far ahead
        if (!capturing) BF_CUDA(cudaEventSynchronize(s.done.get()), "items ", sizes_.size());
        return s;
    }

    Device device_;
    int rule_;
    std::size_t item_bytes_;
    std::vector<std::int64_t> sizes_;
    std::int64_t count_ = 0;
    Tensor items_, chunks_;
    std::vector<Staging> staging_;
    std::size_t next_ = 0;
    std::vector<char> last_;
    bool captured_ = false;  // a graph sends lists, when it is launched
};

struct Lists {
    std::mutex mutex;  ///< held from the look-up to the launch
    std::vector<std::unique_ptr<TensorList>> all;
};
Lists& lists() {
    static Lists& kept = *new Lists;  // not destroyed at exit, when the driver may be gone already
    return kept;
}

TensorList& find_list(Lists& kept, Context& context, int rule, std::size_t item_bytes,
                      const std::vector<std::int64_t>& sizes) {
    for (const auto& list : kept.all)
        if (list->serves(context, rule, item_bytes, sizes)) return *list;
    kept.all.push_back(std::make_unique<TensorList>(context, rule, item_bytes, sizes));
    return *kept.all.back();
}

enum { rule_squares, rule_sgd, rule_adamw };

void check_real(const Tensor& t, const char* op) {
    BF_CHECK(t.dtype() == DType::f32 || t.dtype() == DType::f64, op, "dtype not supported; got ", t.str(),
             ", want f32 or f64");
}

/// Items of type T and their sizes.
template <class T>
struct Items {
    std::vector<math::ListItem<T>> items;
    std::vector<std::int64_t> sizes;

    void add(const math::ListItem<T>& item) {
        items.push_back(item);
        items.back().aligned = aligned(item.x, item.w, item.first, item.second);
        sizes.push_back(item.n);
    }
    /// run(list, device items) once, if there is anything to do.
    template <class F>
    void launch(Context& context, int rule, F&& run) const {
        if (items.empty()) return;
        Lists& kept = lists();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        TensorList& list = find_list(kept, context, rule, sizeof(math::ListItem<T>), sizes);
        if (list.chunk_count() > 0) run(list, list.send(context, items));
    }
    std::int64_t chunk_count() const {
        std::int64_t count = 0;
        for (const std::int64_t n : sizes) count += math::ceil_div(n, math::chunk_elements);
        return count;
    }
};

template <class T, class Rule>
void update_all(Context& context, int kind, const Rule& rule, const std::vector<UpdateItem>& all,
                const Tensor& factors) {
    Items<T> list;
    for (const UpdateItem& i : all)
        if (i.w.dtype() == dtype_of<T>)
            list.add({data<T>(i.g), data<T>(i.w), data<T>(i.first), i.second.defined() ? data<T>(i.second) : nullptr,
                      i.w.numel(), i.lr_scale, i.weight_decay, i.group, 0});
    list.launch(context, kind, [&](const TensorList& on_device, const math::ListItem<T>* items) {
        for_each(context, on_device.chunk_count() * math::fold_threads,
                 math::UpdateChunks<Rule, T>{rule, items, on_device.chunks(), data<double>(factors)});
    });
}

template <class Rule>
void update(Context& context, int kind, const Rule& rule, const std::vector<UpdateItem>& items, const Tensor& factors) {
    for (const UpdateItem& i : items) check_real(i.w, "optimizer");
    update_all<float>(context, kind, rule, items, factors);
    update_all<double>(context, kind, rule, items, factors);
}

template <class T>
Items<T> square_items(const std::vector<Tensor>& x) {
    Items<T> list;
    for (const Tensor& t : x)
        if (t.dtype() == dtype_of<T>) list.add({data<T>(t), nullptr, nullptr, nullptr, t.numel(), 0, 0, 0, 0});
    return list;
}

template <class T>
void square_chunks(Context& context, const Items<T>& list, double* partial) {
    list.launch(context, rule_squares, [&](const TensorList& on_device, const math::ListItem<T>* items) {
        fold(context, on_device.chunk_count(), math::SquareChunks<T>{items, on_device.chunks(), partial});
    });
}

}  // namespace

void sum_squares(Context& context, const std::vector<Tensor>& x, const Tensor& out) {
    for (const Tensor& t : x) check_real(t, "sum_squares");
    const Items<float> narrow = square_items<float>(x);
    const Items<double> wide = square_items<double>(x);
    const std::int64_t split = narrow.chunk_count(), count = split + wide.chunk_count();
    const Tensor partial = scratch(context, {std::max<std::int64_t>(1, count)}, DType::f64);
    square_chunks(context, narrow, data<double>(partial));
    square_chunks(context, wide, data<double>(partial) + split);
    fold(context, 1, math::FoldPartials<math::Sum, double>{data<double>(partial), count, 0, data<double>(out)});
}

void clip_factors(Context& context, const ClipLimits& limits, const Tensor& squares, const Tensor& factors,
                  const Tensor& norm) {
    math::ClipFactors f{
        data<double>(squares), data<double>(factors), data<double>(norm), squares.numel(), 0, 0, limits.global, {}};
    for (f.begin = 0; f.begin < f.groups; f.begin += f.most) {
        f.count = math::smaller(f.most, f.groups - f.begin);
        for (std::int64_t i = 0; i < f.count; ++i)
            f.group_limit[i] = limits.group[static_cast<std::size_t>(f.begin + i)];
        for_each(context, f.count, f);
    }
}

void sgd(Context& context, const math::SgdUpdate& rule, const std::vector<UpdateItem>& items, const Tensor& factors) {
    update(context, rule_sgd, rule, items, factors);
}
void adamw(Context& context, const math::AdamWUpdate& rule, const std::vector<UpdateItem>& items,
           const Tensor& factors) {
    update(context, rule_adamw, rule, items, factors);
}

}  // namespace bf::cuda

#pragma once
#include <tuple>
#include <type_traits>

#include "bf/kernels/dispatch.hpp"
#include "machine.hpp"

// A kernel of the emulated device is the CPU's kernel, run later on host views of the same memory.

namespace bf::emulated {

// each(a, f): calls f on every tensor inside an argument of a kernel.
template <class A, class F>
void each(A&, F&&) {
    static_assert(std::is_trivially_copyable_v<A> || std::is_same_v<A, ClipLimits>, "which tensors does it hold?");
}
template <class F>
void each(Tensor& t, F&& f) {
    f(t);
}
template <class F>
void each(ClassifierRows& r, F&& f) {
    for (Tensor* t : {&r.x, &r.inverse_norm, &r.labels, &r.target_logit, &r.slope, &r.log_sum_exp, &r.m2, &r.m3,
                      &r.radial, &r.target_rows, &r.hard_above, &r.hard_shift})
        f(*t);
}
template <class F>
void each(ClassifierWeights& w, F&& f) {
    f(w.w);
    f(w.inverse_norm);
}
template <class F>
void each(ClassifierStatistics& s, F&& f) {
    for (Tensor* t : {&s.largest, &s.sum, &s.cosine, &s.plain}) f(*t);
}
template <class F>
void each(UpdateItem& i, F&& f) {
    for (Tensor* t : {&i.g, &i.w, &i.first, &i.second}) f(*t);
}
template <class A, class F>
void each(std::vector<A>& all, F&& f) {
    for (A& a : all) each(a, f);
}

/// A host view of a device tensor's memory, which it does not keep alive.
inline void to_host_view(Tensor& t) {
    if (!t.defined()) return;
    BF_CHECK(t.device() == (Device{DeviceType::cuda, 0}), "kernel", "a tensor lies elsewhere; got ", t.str(),
             ", want cuda:0; hint: to(device)");
    t = Tensor::over(t.raw(), t.shape(), {t.dtype(), cpu_device, t.format()});
}

/// The CPU computes no bf16: such tensors are widened to f32 for the kernel and rounded back behind it, those that it
/// only read too, which gives their bits again.
class Widened {
  public:
    void operator()(Tensor& t) {
        if (!t.defined() || t.dtype() != DType::bf16) return;
        const char *begin = static_cast<const char*>(t.raw()), *end = begin + t.bytes();
        for (const Pair& p : pairs_) {
            const char* other = static_cast<const char*>(p.narrow.raw());
            if (other == begin && p.narrow.bytes() == t.bytes()) {  // one tensor in two places is one tensor
                t = Tensor::over(p.wide.raw(), t.shape(), {DType::f32, cpu_device, t.format()});
                return;
            }
            BF_CHECK(end <= other || other + p.narrow.bytes() <= begin, "kernel", "two bf16 tensors overlap; got ",
                     t.str(), " and ", p.narrow.str());
        }
        Pair p{t, Tensor::empty(t.shape(), {DType::f32, cpu_device, t.format()})};
        cpu_table().convert(context(cpu_device), p.narrow, p.wide);
        t = Tensor::over(p.wide.raw(), t.shape(), p.wide.options());
        pairs_.push_back(std::move(p));
    }
    void round_back() const {
        for (const Pair& p : pairs_) cpu_table().convert(context(cpu_device), p.wide, p.narrow);
    }

  private:
    struct Pair {
        Tensor narrow, wide;
    };
    std::vector<Pair> pairs_;
};

/// Queues call(arguments...) with copies of the arguments.
template <class Call, class... Kept>
void queue_call(Context& device, Call call, Kept... kept) {
    (each(kept, to_host_view), ...);
    machine(device.device.index).launch([call, kept = std::tuple<Kept...>(std::move(kept)...)] {
        auto arguments = kept;  // a graph calls again with the same ones
        Widened widened;
        std::apply([&](auto&... a) { (each(a, widened), ...); }, arguments);
        std::apply(call, arguments);
        widened.round_back();
    });
}

template <auto Entry, class Signature = decltype(Entry)>
struct Queued;
template <auto Entry, class... Args>
struct Queued<Entry, void (*KernelTable::*)(Context&, Args...)> {
    static_assert(!(std::is_pointer_v<Args> || ...), "memory behind a pointer is copied by a function of its own");
    static void call(Context& device, Args... args) {
        queue_call(
            device, [](auto&... a) { (cpu_table().*Entry)(context(cpu_device), a...); },
            std::remove_cvref_t<Args>(args)...);
    }
};
/// The function of the emulated device for an entry of the table.
template <auto Entry>
inline constexpr auto* queued = &Queued<Entry>::call;

inline void queued_classifier_dw(Context& device, const ClassifierRows* sets, int set_count, double row_weight,
                                 const Tensor& seed, const ClassifierWeights& weights, const Tensor& dw) {
    queue_call(
        device,
        [](auto& rows, double weight, auto&... rest) {
            cpu_table().classifier_dw(context(cpu_device), rows.data(), static_cast<int>(rows.size()), weight, rest...);
        },
        std::vector<ClassifierRows>(sets, sets + set_count), row_weight, seed, weights, dw);
}
template <>
inline constexpr auto* queued<&KernelTable::classifier_dw> = &queued_classifier_dw;

}  // namespace bf::emulated

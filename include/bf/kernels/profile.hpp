#pragma once
#include <chrono>
#include <map>
#include <string>

#include "bf/kernels/dispatch.hpp"

namespace bf {

/// What the calls of one kernel took.
struct KernelCost {
    std::int64_t calls = 0;
    double seconds = 0;
    double bytes = 0;  ///< of the tensors that were read or written, each once a call
    double flop = 0;   ///< multiplications and additions of convolutions and products by their formula; 0: not counted
};

/// Measures each call of the CPU's kernels while it lives: one row a kernel, and of convolutions one a shape. The rest
/// of a program's time is spent between kernels. One at a time, and while no other thread runs ops.
class KernelProfile {
  public:
    KernelProfile() {
        BF_CHECK(!current(), "profile", "another one is measuring");
        current() = this;
#define BF_ENTRY(name) .name = &Timed<&KernelTable::name>::call,
        static const KernelTable timed{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
        detail::measured_table = &timed;
    }
    ~KernelProfile() {
        detail::measured_table = nullptr;
        current() = nullptr;
    }
    KernelProfile(const KernelProfile&) = delete;
    KernelProfile& operator=(const KernelProfile&) = delete;

    const std::map<std::string, KernelCost>& rows() const { return rows_; }
    void clear() { rows_.clear(); }

  private:
    static KernelProfile*& current() {
        static KernelProfile* profile = nullptr;
        return profile;
    }

    // what an argument adds to a row: its bytes, and of a convolution its shape
    struct Call {
        std::string name;
        double bytes = 0, flop = 0;
        void add(const Tensor& t) { bytes += t.defined() ? static_cast<double>(t.bytes()) : 0; }
        void add(const std::vector<Tensor>& all) {
            for (const Tensor& t : all) add(t);
        }
        void add(const std::vector<UpdateItem>& all) {
            for (const UpdateItem& i : all) {
                for (const Tensor& read : {i.g, i.w, i.first, i.second}) add(read);
                for (const Tensor& written : {i.w, i.first, i.second}) add(written);
            }
        }
        void add(const ClassifierRows& r) { add(r.x); }
        void add(const ClassifierWeights& w) { add(w.w); }
        void add(const ConvGeometry& g) {
            name += concat(" ", g.c_in, g.c_in == g.c_out ? "" : concat("-", g.c_out), " ", g.kernel_h, "x", g.kernel_w,
                           " @ ", g.h, g.stride == 1 ? "" : concat(" / ", g.stride),
                           g.groups == 1 ? "" : concat(" in ", g.groups, " groups"));
            flop += 2 * static_cast<double>(g.macs());
        }
        template <class Other>
        void add(const Other&) {}
    };
    template <auto Entry>
    struct Timed;
    template <class... A, void (*KernelTable::*Entry)(Context&, A...)>
    struct Timed<Entry> {
        static void call(Context& context, A... arguments) {
            Call call{.name = name()};
            (call.add(arguments), ...);
            const auto began = std::chrono::steady_clock::now();
            (cpu_table().*Entry)(context, arguments...);
            KernelCost& row = current()->rows_[call.name];
            row.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
            ++row.calls;
            row.bytes += call.bytes;
            row.flop += call.flop;
        }
        static const char* name() {
#define BF_ENTRY(name)                                                             \
    if constexpr (std::is_same_v<decltype(Entry), decltype(&KernelTable::name)>) { \
        if (Entry == &KernelTable::name) return #name;                             \
    }
            BF_KERNELS(BF_ENTRY)
#undef BF_ENTRY
            return "";
        }
    };

    std::map<std::string, KernelCost> rows_;
};

}  // namespace bf

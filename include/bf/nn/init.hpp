#pragma once
#include <cmath>

#include "bf/base/random.hpp"
#include "bf/core/tensor.hpp"

namespace bf {

/// Draws initial values; the n-th tensor drawn depends on (seed, n) alone, not on the device.
class Init {
  public:
    explicit Init(std::uint64_t seed, DType dtype = DType::f32, Device device = cpu_device)
        : seed_(seed), dtype_(dtype), device_(device) {}

    /// Normal with mean 0 and the given standard deviation.
    Tensor normal(const Shape& shape, double std) {
        return draw(shape, [std](Rng& rng) { return std * static_cast<double>(rng.normal()); });
    }
    /// Uniform in [-bound, bound).
    Tensor uniform(const Shape& shape, double bound) {
        return draw(shape, [bound](Rng& rng) { return bound * (2 * static_cast<double>(rng.uniform()) - 1); });
    }
    Tensor constant(const Shape& shape, double value) const { return full(shape, value, dtype_, device_); }
    DType dtype() const { return dtype_; }

  private:
    template <class F>
    Tensor draw(const Shape& shape, F&& value) {
        Rng rng(seed_, Stream::init, count_++);
        Tensor t = Tensor::empty(shape, {.dtype = dtype_});
        visit_real(dtype_, "init", [&]<class T>() {
            for (T& v : t.span<T>()) v = static_cast<T>(value(rng));
        });
        return t.to(device_);
    }

    std::uint64_t seed_, count_ = 0;
    DType dtype_;
    Device device_;
};

}  // namespace bf

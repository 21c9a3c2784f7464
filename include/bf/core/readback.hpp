#pragma once
#include <vector>

#include "bf/core/device_runtime.hpp"

namespace bf {

/// Scalars on their way from a device to the host, which goes on meanwhile: start() queues the copies, get() waits for
/// them. It may be started again after get().
class Readback {
  public:
    explicit Readback(Device device) : device_(device), copied_(device) {}
    ~Readback() { copied_.settle(); }  // a copy may still be on its way into the memory
    Readback(const Readback&) = delete;
    Readback& operator=(const Readback&) = delete;

    /// Queues the copies of tensors of one element each, f32 or f64, behind what their device is doing.
    void start(const std::vector<Tensor>& scalars) {
        const auto n = static_cast<std::int64_t>(scalars.size());
        if (!room_.defined() || room_.dim(0) < n) room_ = pinned({n}, {.dtype = DType::f64}, device_);
        parts_.clear();
        for (std::int64_t i = 0; i < n; ++i) {
            const Tensor& scalar = scalars[static_cast<std::size_t>(i)];
            BF_CHECK(scalar.numel() == 1 && scalar.device() == device_, "readback", "want one element on ",
                     device_.name(), "; got ", scalar.str());
            parts_.push_back(
                Tensor::over(room_.data<double>() + i, scalar.shape(), {.dtype = scalar.dtype()}, nullptr));
            copy_queued(parts_.back(), scalar, Lane::compute);
        }
        copied_.record(Lane::compute);
    }
    bool ready() const { return copied_.passed(); }
    /// The values in the order of start().
    std::vector<double> get() const {
        copied_.synchronize();
        std::vector<double> values;
        for (const Tensor& part : parts_) values.push_back(part.item());
        return values;
    }

  private:
    Device device_;
    Event copied_;
    Tensor room_;                ///< 8 bytes a scalar, pinned
    std::vector<Tensor> parts_;  ///< views of it
};

}  // namespace bf

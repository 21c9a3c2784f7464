#pragma once
#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "bf/core/device_runtime.hpp"
#include "bf/data/loader.hpp"
#include "bf/train/trainer.hpp"

namespace bf {

/// Moves batches to a device on its transfer lane while the step before is still computing: from pinned memory, into
/// two sets of tensors that take turns. On the cpu batches pass through.
class Upload {
  public:
    explicit Upload(Device device) : device_(device) {}
    ~Upload() {
        for (const std::vector<Slot>& set : sets_)
            for (const Slot& slot : set) slot.arrived.settle();  // its pinned memory may still be being read
    }
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;

    /// The micro-batches of one step, on the device; indices stay on the host. Call it once a step, after the step
    /// before was queued. The tensors hold this step's images until the call after the next. Nothing waits for the
    /// device, unless the host is two steps ahead.
    std::vector<TrainBatch> operator()(std::span<const Batch> batches) {
        std::vector<TrainBatch> here;
        if (device_ == cpu_device) {
            for (const Batch& b : batches) here.push_back({b.images, b.labels, b.indices});
            return here;
        }
        // all that reads the other set has been queued by now
        for (Slot& slot : sets_[turn_]) slot.used.record(Lane::compute);
        turn_ = 1 - turn_;
        std::vector<Slot>& set = sets_[turn_];
        while (set.size() < batches.size()) set.emplace_back(device_);
        for (std::size_t m = 0; m < batches.size(); ++m) {
            Slot& slot = set[m];
            slot.arrived.synchronize();  // until then the pinned memory is being read
            const bool images = fit(slot.images, batches[m].images), labels = fit(slot.labels, batches[m].labels);
            // memory that was just handed out may still be in use by what freed it
            if (images || labels) slot.used.record(Lane::compute);
            fill(slot.images, batches[m].images);
            fill(slot.labels, batches[m].labels);
            slot.used.order(Lane::transfer);
            copy_queued(slot.images.there, slot.images.pinned, Lane::transfer);
            copy_queued(slot.labels.there, slot.labels.pinned, Lane::transfer);
            slot.arrived.record(Lane::transfer);
            slot.arrived.order(Lane::compute);
            here.push_back({slot.images.there, slot.labels.there, batches[m].indices});
        }
        return here;
    }

  private:
    struct Copy {
        Tensor pinned, there;
    };
    struct Slot {
        explicit Slot(Device device) : arrived(device), used(device) {}
        Copy images, labels;
        Event arrived, used;
    };

    /// Makes room for a tensor; true when it is new.
    bool fit(Copy& copy, const Tensor& source) const {
        if (copy.pinned.defined() && copy.pinned.shape() == source.shape() && copy.pinned.dtype() == source.dtype() &&
            copy.pinned.format() == source.format())
            return false;
        copy.there = Tensor::empty(source.shape(), {source.dtype(), device_, source.format()});
        copy.pinned = pinned(source.shape(), source.options(), device_);
        return true;
    }
    static void fill(const Copy& copy, const Tensor& source) {
        std::memcpy(copy.pinned.host(), source.host(), source.bytes());
    }

    Device device_;
    std::array<std::vector<Slot>, 2> sets_;
    std::size_t turn_ = 0;
};

}  // namespace bf

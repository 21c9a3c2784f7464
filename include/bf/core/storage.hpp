#pragma once
#include <memory>
#include <utility>

#include "bf/core/device_memory.hpp"

namespace bf {

/// A block of memory on a device; tensors share it.
class Storage {
  public:
    Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device), owned_(true) {
        data_ = device_memory(device).allocate(bytes, device.index);
    }
    /// Memory of someone else; `owner` is held as long as the storage lives and may be empty.
    Storage(void* data, std::size_t bytes, Device device, std::shared_ptr<void> owner)
        : data_(data), bytes_(bytes), device_(device), owned_(false), owner_(std::move(owner)) {}
    ~Storage() {
        if (owned_) device_memory(device_).deallocate(data_, bytes_, device_.index);
    }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    Device device() const { return device_; }

  private:
    void* data_ = nullptr;
    std::size_t bytes_;
    Device device_;
    bool owned_;
    std::shared_ptr<void> owner_;
};

}  // namespace bf

#pragma once
#include "bf/core/device_memory.hpp"

namespace bf {

/// A block of memory on a device; tensors share it.
class Storage {
  public:
    Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
        data_ = device_memory(device).allocate(bytes, device.index);
    }
    ~Storage() { device_memory(device_).deallocate(data_, bytes_, device_.index); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    Device device() const { return device_; }

  private:
    void* data_ = nullptr;
    std::size_t bytes_;
    Device device_;
};

}  // namespace bf

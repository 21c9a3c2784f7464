#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "bf/base/error.hpp"

// No CUDA in here: the tests run it on the CPU.

namespace bf::cuda {

/// One T a GPU, made at its first use by whichever thread comes first and never destroyed: tensors of static storage
/// duration may outlive main, and the driver may be gone by then.
template <class T>
class PerDevice {
  public:
    static constexpr int most = 64;

    /// make() gives a unique_ptr<T>; what it throws passes through, and the next call tries again.
    template <class Make>
    T& get(int index, const Make& make) {
        std::atomic<T*>& slot = slots_.at(static_cast<std::size_t>(index));
        if (T* made = slot.load(std::memory_order_acquire)) return *made;
        std::lock_guard lock(mutex_);
        if (!slot.load(std::memory_order_relaxed)) slot.store(make().release(), std::memory_order_release);
        return *slot.load(std::memory_order_relaxed);
    }
    /// The T of this GPU if it was made.
    T* find(int index) const { return slots_.at(static_cast<std::size_t>(index)).load(std::memory_order_acquire); }

  private:
    std::array<std::atomic<T*>, most> slots_{};
    std::mutex mutex_;
};

/// An on/off switch of the environment: 1, on, true, yes or 0, off, false, no; `otherwise` when it is not set. Throws a
/// usage Error at anything else.
inline bool environment_switch(const char* name, bool otherwise) {
    const char* text = std::getenv(name);
    if (!text || !*text) return otherwise;
    const std::string value = text;
    for (const char* yes : {"1", "on", "true", "yes"})
        if (value == yes) return true;
    for (const char* no : {"0", "off", "false", "no"})
        if (value == no) return false;
    fail(ErrorCode::usage, name, "got ", value, ", want 0 or 1");
}

}  // namespace bf::cuda

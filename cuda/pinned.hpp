#pragma once
#include <span>

#include "handle.hpp"

namespace bf::cuda {

/// Page-locked host memory, which a GPU reads and writes by itself while the host goes on.
class PinnedBuffer {
  public:
    PinnedBuffer() = default;
    explicit PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
        void* p = nullptr;
        BF_CUDA(cudaHostAlloc(&p, bytes, cudaHostAllocDefault), "bytes ", bytes, " of pinned host memory");
        memory_ = Memory(p);
    }

    void* data() const { return memory_.get(); }
    std::size_t bytes() const { return bytes_; }
    template <class T>
    std::span<T> span() const {
        return {static_cast<T*>(data()), bytes_ / sizeof(T)};
    }

  private:
    using Memory = Owned<void*, cudaFreeHost>;
    Memory memory_;
    std::size_t bytes_ = 0;
};

/// A value that comes back from the GPU while the host goes on: start() queues the copy, ready() looks, get() waits.
/// One for each number that a step reports (loss, metrics), read a step or more later.
template <class T>
class AsyncValue {
  public:
    AsyncValue() : buffer_(sizeof(T)), copied_(make_event()) {}

    /// Queues the copy of one T from device memory behind the work of `stream`.
    void start(const void* from, cudaStream_t stream) {
        BF_CUDA(cudaMemcpyAsync(buffer_.data(), from, sizeof(T), cudaMemcpyDeviceToHost, stream), "bytes ", sizeof(T));
        BF_CUDA(cudaEventRecord(copied_.get(), stream));
    }
    bool ready() const { return passed(copied_); }
    T get() const {
        BF_CUDA(cudaEventSynchronize(copied_.get()));
        return *static_cast<const T*>(buffer_.data());
    }

  private:
    PinnedBuffer buffer_;
    EventHandle copied_;
};

}  // namespace bf::cuda

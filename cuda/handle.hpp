#pragma once
#include <utility>

#include "runtime.hpp"

namespace bf::cuda {

/// Owner of a handle of a CUDA library; `destroy` is the library's function. Its status is not looked at: a destructor
/// cannot report it, and the next checked call does.
template <class Handle, auto destroy>
class Owned {
  public:
    Owned() = default;
    explicit Owned(Handle handle) : handle_(handle) {}
    ~Owned() {
        if (handle_) destroy(handle_);
    }
    Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
    Owned& operator=(Owned&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }

    Handle get() const { return handle_; }
    /// Where a library's create function puts the handle; only for an owner of nothing.
    Handle* out() { return &handle_; }
    /// Gives the handle away.
    Handle release() { return std::exchange(handle_, Handle{}); }

  private:
    Handle handle_{};
};

using StreamHandle = Owned<cudaStream_t, cudaStreamDestroy>;
using EventHandle = Owned<cudaEvent_t, cudaEventDestroy>;
using BlasLtHandle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using GraphHandle = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExecHandle = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;
using DnnHandle = Owned<cudnnHandle_t, cudnnDestroy>;

/// A stream on the current device that does not wait for the legacy default stream.
inline StreamHandle make_stream() {
    StreamHandle s;
    BF_CUDA(cudaStreamCreateWithFlags(s.out(), cudaStreamNonBlocking));
    return s;
}
/// An event on the current device, without a time stamp unless asked for (which makes recording slower).
inline EventHandle make_event(bool timed = false) {
    EventHandle e;
    BF_CUDA(cudaEventCreateWithFlags(e.out(), timed ? cudaEventDefault : cudaEventDisableTiming));
    return e;
}
/// What is queued on `to` from now on waits for what is queued on `from` so far; the host does not wait.
inline void order_streams(cudaStream_t from, cudaStream_t to) {
    const EventHandle e = make_event();  // may be destroyed while the wait is queued
    BF_CUDA(cudaEventRecord(e.get(), from));
    BF_CUDA(cudaStreamWaitEvent(to, e.get(), 0));
}

}  // namespace bf::cuda

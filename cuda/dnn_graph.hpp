#pragma once
#include <utility>

#include "conv_plan.hpp"
#include "runtime.hpp"

// cuDNN 9 through its graph API. A graph is described by descriptors; each is created, given its attributes, then
// finalized before another one refers to it: tensors and the convolution, the operation, the graph of operations, the
// heuristics, which propose engine configurations, and from one of these an execution plan.

namespace bf::cuda {

/// Owns a backend descriptor. All functions throw a runtime Error when the library refuses.
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(cudnnBackendDescriptorType_t type);
    Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Descriptor();

    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
             const void* values);
    void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
        set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.handle_);
    }
    /// Reads up to `room` elements into values; the number of elements there are.
    std::int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t room,
                     void* values) const;
    void finalize();
    cudnnBackendDescriptor_t handle() const { return handle_; }

  private:
    cudnnBackendDescriptor_t handle_ = nullptr;
};

/// Dense image [N, C, H, W], or filter bank [O, C / groups, kh, kw], with the channels innermost. `id` names it in the
/// graph; its address has to be a multiple of plan_alignment. Finalized.
Descriptor tensor_descriptor(std::int64_t id, const std::array<std::int64_t, 4>& dims, DType dtype);

/// Cross-correlation with sums in f32. Finalized.
Descriptor convolution_descriptor(const ConvGeometry& g);

/// y = x * w, dx = dy * w or dw = x * dy, by the pass; x, w and y stand for the gradients too. Finalized.
Descriptor convolution_operation(ConvPass pass, const Descriptor& convolution, const Descriptor& x, const Descriptor& w,
                                 const Descriptor& y);

/// The graph of one operation. Finalized. Without a handle (no GPU) it can be described, not run.
Descriptor operation_graph(cudnnHandle_t dnn, const Descriptor& operation);

/// A GPU that need not be there: its properties in the library's JSON. Finalized. Needs cuDNN 9.8.
Descriptor device_descriptor(const std::string& json);

/// Plans of a pass on such a GPU, best guess first: what a program there takes (the first), as far as the library
/// answers the same. Throws a runtime Error when the library refuses the convolution itself.
std::vector<PlanFacts> plans_on(const Descriptor& device, const PlanKey& key, std::size_t wanted);

/// Device addresses (multiples of plan_alignment) of a convolution's three tensors, or of their gradients: x [N, C, H,
/// W] nhwc, w KRSC (kh, kw, C innermost), y [N, O, H', W'] nhwc.
struct ConvBuffers {
    void *x, *w, *y;
};

/// Runs one pass on the backend's stream and overwrites its result: y (forward), x (dx) or w (dw). The plan is built at
/// the first call with this key (and timed, if the key asks for it: this waits for the device) and kept for each GPU.
/// Safe to call from several threads. Throws a runtime Error when no engine takes the convolution.
void run_convolution(Context& context, const PlanKey& key, const ConvBuffers& buffers);

/// One line for each plan in use on the context's GPU: the convolution, the engine, its notes, workspace, time.
std::vector<std::string> convolution_plans(Context& context);

}  // namespace bf::cuda

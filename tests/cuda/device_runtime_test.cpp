// What the CUDA backend does beside what tests/core/device_test.cpp asks of any device. Tests of a GPU are skipped,
// with the reason, where there is none.
#if defined(BF_HAVE_CUDA) && !defined(BF_EMULATED_DEVICE)
#include <gtest/gtest.h>

#include "cuda/pinned.hpp"
#include "device.hpp"

namespace {

using bf::Lane;
using bf::Tensor;

template <class Call>
std::string refusal_of(const Call& call) {
    try {
        call();
    } catch (const bf::Error& e) {
        return e.what();
    }
    return {};
}

TEST(Capture, WhatWouldEndItIsRefusedWithAHint) {
    bf::cuda::Backend b;
    bf::cuda::refuse_in_capture(b, "copy", "a copy", "copy later");
    b.capture_pool = 1;
    EXPECT_EQ(refusal_of([&] { bf::cuda::refuse_in_capture(b, "copy", "a copy", "copy later"); }),
              "copy: a copy cannot be part of a graph, and one is being captured on cuda:0; hint: copy later");
}

class GpuRuntime : public OnDevice {
  protected:
    const bf::DeviceRuntime& runtime() { return bf::device_runtime(test_device); }
    static Tensor on_device(std::int64_t n) { return Tensor::zeros({n}, {.device = test_device}); }
    /// y = a x on the GPU.
    static void scale(double a, const Tensor& x, const Tensor& y) {
        bf::kernels(test_device).axpby(bf::context(test_device), a, x, 0, y);
    }
    static float first(const Tensor& t) { return *t.to(bf::cpu_device).data<float>(); }
};

TEST_F(GpuRuntime, PinnedMemoryIsKeptForTheNextStep) {
    void* p = runtime().pin(100000, 0);
    runtime().unpin(p, 100000, 0);
    void* q = runtime().pin(99000, 0);  // of the same size class
    EXPECT_EQ(q, p);
    runtime().unpin(q, 99000, 0);
}

TEST_F(GpuRuntime, MemoryOfAGraphCountsAsInUseAndIsGivenBackWithIt) {
    const std::int64_t n = 1 << 22;
    const std::size_t before = bf::device_memory(test_device).stats(0).in_use;
    {
        Tensor outlives;
        const bf::DeviceGraph graph(test_device, [&] {
            outlives = Tensor::empty({n}, {.device = test_device});
            scale(1, outlives, Tensor::empty({n}, {.device = test_device}));
        });
        EXPECT_GE(bf::device_memory(test_device).stats(0).in_use, before + 8 * static_cast<std::size_t>(n));
    }
    EXPECT_EQ(bf::device_memory(test_device).stats(0).in_use, before);
}

TEST_F(GpuRuntime, ACaptureRefusesEventsAndTheReleaseOfTheCache) {
    const Tensor x = on_device(1000), y = on_device(1000);
    const auto capture = [&](const auto& what) {
        return refusal_of([&] {
            const bf::DeviceGraph graph(test_device, [&] {
                scale(2, x, y);
                what();
            });
        });
    };
    const bf::Event event(test_device);
    EXPECT_NE(capture([&] { event.record(Lane::compute); }).find("an event cannot be part"), std::string::npos);
    EXPECT_NE(capture([&] { event.order(Lane::compute); }).find("an event cannot be part"), std::string::npos);
    EXPECT_NE(capture([&] { bf::device_memory(test_device).release_cache(0); }).find("release_cache: "),
              std::string::npos);
    EXPECT_EQ(capture([&] { event.record(Lane::transfer); }), "");  // the other lane goes on
    EXPECT_NE(refusal_of([&] { runtime().end_capture(0); }).find("nothing is being captured"), std::string::npos);
    scale(5, bf::full({1000}, 3, bf::DType::f32, test_device), y);
    EXPECT_EQ(first(y), 15);
}

/// A call that the runtime itself cannot capture: it invalidates the capture, and that is one clear Error.
TEST_F(GpuRuntime, AnInvalidatedCaptureIsOneErrorAndTheStreamGoesOn) {
    const Tensor x = on_device(1000), y = on_device(1000);
    const std::string message = refusal_of([&] {
        const bf::DeviceGraph graph(test_device, [&] {
            scale(2, x, y);
            static_cast<void>(cudaStreamSynchronize(bf::cuda::backend(bf::context(test_device)).stream));
            static_cast<void>(cudaGetLastError());
        });
    });
    EXPECT_NE(message.find("cudaErrorStreamCaptureInvalidated"), std::string::npos) << message;
    EXPECT_NE(message.find("hint: a captured step may not wait"), std::string::npos) << message;
    scale(5, bf::full({1000}, 3, bf::DType::f32, test_device), y);
    EXPECT_EQ(first(y), 15);
}

}  // namespace
#endif

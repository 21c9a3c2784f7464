// Lanes, events, pinned memory and graphs of a GPU. Skipped, with the reason, where there is none; what needs no GPU
// runs everywhere.
#include "bf/core/device_runtime.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "bf/kernels/dispatch.hpp"
#ifdef BF_HAVE_CUDA
#include "cuda/pinned.hpp"
#endif

namespace {

using bf::DType;
using bf::Lane;
using bf::Tensor;

constexpr bf::Device gpu{bf::DeviceType::cuda, 0};

template <class Call>
std::string error_of(const Call& call) {
    try {
        call();
    } catch (const bf::Error& e) {
        return e.what();
    }
    return {};
}

#ifdef BF_HAVE_CUDA
TEST(Capture, WhatWouldEndItIsRefusedWithAHint) {
    bf::cuda::Backend b;
    bf::cuda::refuse_in_capture(b, "copy", "a copy", "copy later");
    b.capture_pool = 1;
    EXPECT_EQ(error_of([&] { bf::cuda::refuse_in_capture(b, "copy", "a copy", "copy later"); }),
              "copy: a copy cannot be part of a graph, and one is being captured on cuda:0; hint: copy later");
}
#endif

struct Nothing {
    static constexpr const char* name = "sand";
    static void* allocate(std::size_t) { return nullptr; }
    static void free(void*) {}
};
TEST(HostAllocator, SaysWhatIsUsedUp) {
    bf::HostAllocator<Nothing> none;
    EXPECT_NE(error_of([&] { none.allocate(100); }).find("out of sand; wanted 128 bytes, in use 0 bytes"),
              std::string::npos);
    EXPECT_EQ(none.stats().in_use, 0u);
    EXPECT_EQ(none.stats().system_calls, 0u);
}

class GpuRuntime : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = error_of([] { bf::context(gpu); }); !reason.empty()) GTEST_SKIP() << reason;
    }
    const bf::DeviceRuntime& runtime() { return bf::device_runtime(gpu); }
    static Tensor counted(std::int64_t n) {
        Tensor t = Tensor::empty({n});
        std::iota(t.data<float>(), t.data<float>() + n, 0.0f);
        return t;
    }
    /// y = a x on the GPU.
    static void scale(double a, const Tensor& x, const Tensor& y) {
        bf::kernels(gpu).axpby(bf::context(gpu), a, x, 0, y);
    }
    static float last(const Tensor& t) {
        const Tensor host = t.to(bf::cpu_device);
        return host.data<float>()[host.numel() - 1];
    }
};

TEST_F(GpuRuntime, SettingsAreWhatWasConfigured) {
    const bf::DeviceSettings before = runtime().settings(0);
    runtime().configure({.tf32 = false, .deterministic = false, .autotune = true}, 0);
    const bf::DeviceSettings got = runtime().settings(0);
    runtime().configure(before, 0);
    EXPECT_FALSE(got.tf32);
    EXPECT_FALSE(got.deterministic);
    EXPECT_TRUE(got.autotune);
    EXPECT_EQ(runtime().settings(0).deterministic, before.deterministic);
}

TEST_F(GpuRuntime, PinnedMemoryIsKeptForTheNextStep) {
    void* p = runtime().pin(100000, 0);
    runtime().unpin(p, 100000, 0);
    void* q = runtime().pin(99000, 0);  // of the same size class
    EXPECT_EQ(q, p);
    runtime().unpin(q, 99000, 0);
}

TEST_F(GpuRuntime, CopiesOfTheTransferLaneAreOrderedWithTheKernelsByEvents) {
    const std::int64_t n = 1 << 22;
    const Tensor source = counted(n), up = bf::pinned({n}, {}, gpu), down = bf::pinned({n}, {}, gpu);
    up.copy_from(source);
    const Tensor x = Tensor::empty({n}, {.device = gpu}), y = Tensor::empty({n}, {.device = gpu});
    const bf::Event arrived(gpu), computed(gpu), back(gpu);
    EXPECT_TRUE(back.passed());  // never recorded
    bf::copy_queued(x, up, Lane::transfer);
    arrived.record(Lane::transfer);
    arrived.order(Lane::compute);
    scale(2, x, y);
    computed.record(Lane::compute);
    computed.order(Lane::transfer);
    bf::copy_queued(down, y, Lane::transfer);
    back.record(Lane::transfer);
    back.synchronize();
    EXPECT_TRUE(back.passed());
    for (std::int64_t i = 0; i < n; i += 4099) ASSERT_EQ(down.data<float>()[i], 2 * source.data<float>()[i]);
}

TEST_F(GpuRuntime, AGraphReadsTheSameMemoryAtEveryLaunch) {
    const std::int64_t n = 1 << 20;
    const Tensor x = counted(n).to(gpu), y = Tensor::empty({n}, {.device = gpu});
    scale(1, x, y);
    const bf::DeviceGraph graph(gpu, [&] {
        const Tensor between = Tensor::empty({n}, {.device = gpu});  // belongs to the graph
        scale(3, x, between);
        scale(2, between, y);
    });
    EXPECT_EQ(last(y), static_cast<float>(n - 1));  // captured, not run
    std::vector<Tensor> others;
    for (int i = 0; i < 8; ++i)
        others.push_back(bf::full({n}, 7, DType::f32, gpu));  // none of it in the graph's memory
    graph.launch();
    EXPECT_EQ(last(y), 6.0f * static_cast<float>(n - 1));
    scale(0.5, x.clone(), x);
    graph.launch();
    EXPECT_EQ(last(y), 3.0f * static_cast<float>(n - 1));
    for (const Tensor& t : others) EXPECT_EQ(last(t), 7.0f);
}

TEST_F(GpuRuntime, MemoryOfAGraphIsGivenBackWithIt) {
    const std::size_t before = bf::device_memory(gpu).stats(0).in_use;
    {
        Tensor outlives;
        const bf::DeviceGraph graph(gpu, [&] {
            outlives = Tensor::empty({1 << 22}, {.device = gpu});
            scale(1, outlives, Tensor::empty({1 << 22}, {.device = gpu}));
        });
        EXPECT_GE(bf::device_memory(gpu).stats(0).in_use, before + (std::size_t{32} << 20));
    }
    EXPECT_EQ(bf::device_memory(gpu).stats(0).in_use, before);
}

TEST_F(GpuRuntime, WhatBreaksACaptureIsRefusedAndTheStreamGoesOn) {
    const Tensor x = counted(1000).to(gpu), y = Tensor::empty({1000}, {.device = gpu});
    const auto capture = [&](const auto& what) {
        return error_of([&] {
            const bf::DeviceGraph graph(gpu, [&] {
                scale(2, x, y);
                what();
            });
        });
    };
    const bf::Event event(gpu);
    EXPECT_NE(capture([&] { x.to(bf::cpu_device); }).find("a copy to host memory cannot be part of a graph"),
              std::string::npos);
    EXPECT_NE(capture([&] { counted(10).to(gpu); }).find("a copy from host memory"), std::string::npos);
    EXPECT_NE(capture([&] { bf::device_memory(gpu).synchronize(0); }).find("a wait of the host"), std::string::npos);
    EXPECT_NE(capture([&] { bf::device_memory(gpu).release_cache(0); }).find("release_cache"), std::string::npos);
    EXPECT_NE(capture([&] { event.record(Lane::compute); }).find("an event"), std::string::npos);
    EXPECT_NE(capture([&] { runtime().begin_capture(0); }).find("a capture is in progress"), std::string::npos);
    scale(5, x, y);
    EXPECT_EQ(last(y), 5.0f * 999);
    EXPECT_NE(error_of([&] { runtime().end_capture(0); }).find("nothing is being captured"), std::string::npos);
}

/// A call that the runtime itself cannot capture: it invalidates the capture, and that is one clear Error.
TEST_F(GpuRuntime, AnInvalidatedCaptureIsOneErrorAndTheStreamGoesOn) {
#ifdef BF_HAVE_CUDA
    const Tensor x = counted(1000).to(gpu), y = Tensor::empty({1000}, {.device = gpu});
    const std::string message = error_of([&] {
        const bf::DeviceGraph graph(gpu, [&] {
            scale(2, x, y);
            static_cast<void>(cudaStreamSynchronize(bf::cuda::backend(bf::context(gpu)).stream));
            static_cast<void>(cudaGetLastError());
        });
    });
    EXPECT_NE(message.find("cudaErrorStreamCaptureInvalidated"), std::string::npos) << message;
    EXPECT_NE(message.find("hint: a captured step may not wait"), std::string::npos) << message;
    scale(5, x, y);
    EXPECT_EQ(last(y), 5.0f * 999);
#endif
}

}  // namespace

// Memory, lanes, events and graphs of a device. On a GPU these tests see what it happens to do; the emulated device
// does everything as late as it may, so that there what nobody ordered goes wrong for certain.
#include "device.hpp"

#include <cmath>
#include <functional>
#include <numeric>
#include <thread>

#include "bf/core/device_runtime.hpp"
#include "bf/ops/shape.hpp"

namespace {

using bf::CopyKind;
using bf::Device;
using bf::DeviceGraph;
using bf::DType;
using bf::Event;
using bf::Lane;
using bf::Tensor;

constexpr Device device = test_device;

Tensor counting(std::int64_t n, float from = 0) {
    Tensor t = Tensor::empty({n});
    std::iota(t.data<float>(), t.data<float>() + n, from);
    return t;
}
std::vector<float> values(const Tensor& t) {
    const Tensor host = t.to(bf::cpu_device);
    return {host.data<float>(), host.data<float>() + host.numel()};
}
std::vector<float> repeated(std::size_t n, float value) { return std::vector<float>(n, value); }

void fill(const Tensor& t, double value) { bf::kernels(t.device()).fill(bf::context(t.device()), t, value); }
/// y = alpha x + beta y
void axpby(double alpha, const Tensor& x, double beta, const Tensor& y) {
    bf::kernels(y.device()).axpby(bf::context(y.device()), alpha, x, beta, y);
}
void wait_for_device() { bf::device_memory(device).synchronize(device.index); }

template <class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const bf::Error& e) {
        return e.what();
    }
    return "no error";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// ---- the host as a device

TEST(CpuRuntime, DoesAtOnceWhatIsQueued) {
    const bf::DeviceRuntime& runtime = bf::device_runtime(bf::cpu_device);
    EXPECT_EQ(runtime.has_bf16(0), bf::cpu_has_bf16());
    EXPECT_FALSE(runtime.settings(0).tf32);
    const Tensor from = bf::pinned({3}, {}, bf::cpu_device), to = Tensor::empty({3});
    std::iota(from.data<float>(), from.data<float>() + 3, 5.0f);
    bf::copy_queued(to, from, Lane::transfer);
    EXPECT_EQ(values(to), (std::vector<float>{5, 6, 7}));
    const Event event(bf::cpu_device);
    event.record(Lane::compute);
    event.order(Lane::transfer);
    EXPECT_TRUE(event.passed());
    event.synchronize();
    EXPECT_THROW(bf::copy_queued(Tensor::empty({2}), from, Lane::transfer), bf::Error);
}

TEST(CpuRuntime, CapturesNothing) {
    bool ran = false;
    EXPECT_TRUE(has(message_of([&] { DeviceGraph graph(bf::cpu_device, [&] { ran = true; }); }), "no graphs"));
    EXPECT_FALSE(ran);
}

TEST(CpuRuntime, PinnedMemoryIsReturned) {
    const std::size_t before = bf::cpu_allocator().stats().in_use;
    { const Tensor t = bf::pinned({1000}, {}, bf::cpu_device); }
    EXPECT_EQ(bf::cpu_allocator().stats().in_use, before);
}

#ifndef BF_HAVE_CUDA
TEST(CpuRuntime, ABuildWithoutADeviceSaysSo) {
    EXPECT_TRUE(has(message_of([] { bf::device_runtime(device); }), "cuda is not part of this build"));
}
#endif

// ---- memory

class GpuMemory : public OnDevice {};
class GpuLanes : public OnDevice {};
class GpuGraph : public OnDevice {};

TEST_F(GpuMemory, CopiesGoThereAndBack) {
    const Tensor x = counting(1000), y = x.to(device), z = y.clone();
    EXPECT_EQ(y.device(), device);
    EXPECT_EQ(values(z), values(x));
    EXPECT_EQ(values(y.rows(10, 20)), values(x.rows(10, 20)));
    EXPECT_EQ(values(Tensor::zeros({5}, {.device = device})), repeated(5, 0));
    EXPECT_EQ(values(Tensor::empty({0}, {.device = device})), std::vector<float>());
}

TEST_F(GpuMemory, PageableMemoryMayBeOverwrittenAtOnce) {
    Tensor x = counting(100);
    const Tensor y = x.to(device);
    std::fill_n(x.data<float>(), 100, -1.0f);
    EXPECT_EQ(values(y), values(counting(100)));
}

TEST_F(GpuMemory, OnlyTheDevicesThatAreThere) {
    for (const int index : {-1, 63})
        EXPECT_TRUE(has(message_of([=] {
                            Tensor::empty({1}, {.device = {bf::DeviceType::cuda, index}});
                        }),
                        "cuda:"))
            << index;
    EXPECT_THROW(bf::context({bf::DeviceType::cuda, 63}), bf::Error);
}

TEST_F(GpuMemory, StatsCountWhatLives) {
    const bf::DeviceMemory& memory = bf::device_memory(device);
    const auto stats = [&] { return memory.stats(device.index); };
    memory.reset_peak(device.index);
    const bf::MemoryStats before = stats();
    EXPECT_EQ(before.peak, before.in_use);
    constexpr std::size_t size = std::size_t{3} << 20;
    {
        const Tensor a = Tensor::empty({size / 4}, {.device = device});
        EXPECT_GE(stats().in_use, before.in_use + size);
        const Tensor pinned = bf::pinned({size / 4}, {}, device);  // host memory is counted apart
        EXPECT_LT(stats().in_use, before.in_use + 2 * size);
        const Tensor b = Tensor::empty({size / 4}, {.device = device});
        EXPECT_GE(stats().peak, before.in_use + 2 * size);
    }
    const bf::MemoryStats after = stats();
    EXPECT_EQ(after.in_use, before.in_use);
    EXPECT_GE(after.cached, before.cached);
    EXPECT_GE(after.peak, before.in_use + 2 * size);
    for (int i = 0; i < 5; ++i) fill(Tensor::empty({size / 4}, {.device = device}), i);  // what was freed is used again
    EXPECT_EQ(stats().system_calls, after.system_calls);
    memory.reset_peak(device.index);
    EXPECT_EQ(stats().peak, stats().in_use);
    memory.release_cache(device.index);
    EXPECT_LE(stats().cached, after.cached);
    if (stats().cached >= size) return;  // room beside what lives in the same piece of a GPU's memory
    fill(Tensor::empty({size / 4}, {.device = device}), 0);
    EXPECT_GT(stats().system_calls, after.system_calls);
}

TEST_F(GpuMemory, FreedMemoryLivesAsLongAsTheWorkThatWasQueuedOnIt) {
    const Tensor y = Tensor::zeros({1000}, {.device = device});
    for (int i = 0; i < 3; ++i) {
        const Tensor x = Tensor::empty({1000}, {.device = device});
        fill(x, 1 << i);
        axpby(1, x, 1, y);
    }
    EXPECT_EQ(values(y), repeated(1000, 7));
}

// ---- lanes and events

TEST_F(GpuLanes, AQueuedCopyOrderedByEventsGoesThereAndBack) {
    const Tensor up = bf::pinned({1000}, {}, device), down = bf::pinned({1000}, {}, device);
    const Tensor x = Tensor::empty({1000}, {.device = device});
    std::iota(up.data<float>(), up.data<float>() + 1000, 1.0f);
    const Event sent(device), computed(device), back(device);
    bf::copy_queued(x, up, Lane::transfer);
    sent.record(Lane::transfer);
    sent.order(Lane::compute);
    axpby(2, x, 0, x);
    computed.record(Lane::compute);
    computed.order(Lane::transfer);
    bf::copy_queued(down, x, Lane::transfer);
    back.record(Lane::transfer);
    back.synchronize();
    EXPECT_TRUE(back.passed());
    EXPECT_TRUE(sent.passed());
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(down.data<float>()[i], 2.0f * static_cast<float>(i + 1));
}

TEST_F(GpuLanes, AnEventThatWasNeverRecordedHasPassed) {
    const Event event(device);
    EXPECT_TRUE(event.passed());
    event.order(Lane::compute);
    event.synchronize();
}

TEST_F(GpuLanes, AnEventMeansItsLastRecord) {
    const Event event(device);
    const Tensor x = Tensor::empty({10}, {.device = device}), out = bf::pinned({10}, {}, device);
    fill(x, 1);
    event.record(Lane::compute);
    fill(x, 2);
    bf::copy_queued(out, x, Lane::compute);
    event.record(Lane::compute);
    event.synchronize();
    EXPECT_EQ(values(out), repeated(10, 2));
}

TEST_F(GpuLanes, AskingAgainAndAgainGetsOn) {
    const Event event(device);
    const Tensor x = Tensor::empty({10}, {.device = device}), out = bf::pinned({10}, {}, device);
    fill(x, 3);
    bf::copy_queued(out, x, Lane::compute);
    event.record(Lane::compute);
    while (!event.passed()) std::this_thread::yield();
    EXPECT_EQ(values(out), repeated(10, 3));
}

TEST_F(GpuLanes, EventsMove) {
    Event a(device), b(device);
    fill(Tensor::empty({10}, {.device = device}), 1);
    a.record(Lane::compute);
    Event c = std::move(a);
    b = std::move(c);
    b.synchronize();
    EXPECT_TRUE(b.passed());
}

TEST_F(GpuLanes, QueuedCopiesWantEqualTensors) {
    const Tensor x = Tensor::empty({10}, {.device = device});
    EXPECT_THROW(bf::copy_queued(x, bf::pinned({9}, {}, device), Lane::compute), bf::Error);
    EXPECT_THROW(bf::copy_queued(x, bf::pinned({10}, {.dtype = DType::i32}, device), Lane::compute), bf::Error);
    EXPECT_THROW(bf::copy_queued(x, Tensor::empty({10}, {.device = device}), Lane::compute), bf::Error);
}

TEST_F(GpuLanes, SettingsAreKept) {
    const bf::DeviceRuntime& runtime = bf::device_runtime(device);
    const bf::DeviceSettings before = runtime.settings(device.index);
    bf::DeviceSettings other = before;
    other.deterministic = !before.deterministic;
    other.tf32 = !before.tf32;
    runtime.configure(other, device.index);
    EXPECT_EQ(runtime.settings(device.index).deterministic, other.deterministic);
    EXPECT_EQ(runtime.settings(device.index).tf32, other.tf32);
    runtime.configure(before, device.index);
    EXPECT_EQ(runtime.settings(device.index).deterministic, before.deterministic);
}

// ---- graphs

TEST_F(GpuGraph, IsLaunchedAgainAndAgain) {
    const Tensor x = Tensor::zeros({100}, {.device = device}), y = Tensor::zeros({100}, {.device = device});
    fill(x, 1);
    const DeviceGraph graph(device, [&] { axpby(1, x, 1, y); });
    EXPECT_EQ(values(y), repeated(100, 0));  // a capture runs nothing
    for (int i = 0; i < 3; ++i) graph.launch();
    EXPECT_EQ(values(y), repeated(100, 3));
    fill(x, 10);  // what it reads is read at each launch
    graph.launch();
    EXPECT_EQ(values(y), repeated(100, 13));
}

TEST_F(GpuGraph, MemoryOfACaptureIsItsOwn) {
    const Tensor x = Tensor::empty({1000}, {.device = device});
    fill(x, 1);
    Tensor kept;
    const DeviceGraph graph(device, [&] {
        const Tensor twice = Tensor::empty({1000}, {.device = device});  // given back inside
        axpby(2, x, 0, twice);
        kept = Tensor::empty({1000}, {.device = device});
        axpby(3, twice, 0, kept);
    });
    graph.launch();
    EXPECT_EQ(values(kept), repeated(1000, 6));
    // what the host takes meanwhile is other memory
    std::vector<Tensor> others;
    for (int i = 0; i < 20; ++i) fill(others.emplace_back(Tensor::empty({1000}, {.device = device})), -1);
    fill(x, 2);
    graph.launch();
    EXPECT_EQ(values(kept), repeated(1000, 12));
    for (const Tensor& t : others) EXPECT_EQ(values(t), repeated(1000, -1));
    // nor is the memory of a tensor that outlived the capture handed out while the graph lives
    kept = Tensor();
    for (int i = 0; i < 20; ++i) fill(others.emplace_back(Tensor::empty({1000}, {.device = device})), -1);
    graph.launch();
    for (const Tensor& t : others) EXPECT_EQ(values(t), repeated(1000, -1));
}

TEST_F(GpuGraph, ATensorOfACaptureMayOutliveTheGraph) {
    Tensor kept;
    {
        const DeviceGraph graph(device, [&] {
            kept = Tensor::empty({100}, {.device = device});
            fill(kept, 4);
        });
        graph.launch();
        wait_for_device();
    }
    EXPECT_EQ(values(kept), repeated(100, 4));
    kept = Tensor();
    wait_for_device();
}

TEST_F(GpuGraph, TakesItsInputFromACopyThatAnEventOrders) {
    const Tensor pinned = bf::pinned({10}, {}, device), x = Tensor::empty({10}, {.device = device}),
                 y = Tensor::empty({10}, {.device = device});
    const DeviceGraph graph(device, [&] { axpby(2, x, 0, y); });
    const Event sent(device), used(device);
    for (int step = 1; step < 4; ++step) {
        sent.synchronize();  // the pinned memory is free again
        std::fill_n(pinned.data<float>(), 10, static_cast<float>(step));
        used.order(Lane::transfer);
        bf::copy_queued(x, pinned, Lane::transfer);
        sent.record(Lane::transfer);
        sent.order(Lane::compute);
        graph.launch();
        used.record(Lane::compute);
        EXPECT_EQ(values(y), repeated(10, 2 * static_cast<float>(step)));
    }
}

TEST_F(GpuGraph, WhatNeedsTheHostIsAnErrorAndLeavesTheDeviceUsable) {
    const Tensor x = Tensor::zeros({10}, {.device = device}), host = counting(10);
    const std::vector<std::function<void()> > refused{
        [&] { x.to(bf::cpu_device); },
        [&] { x.copy_from(host); },
        [&] { wait_for_device(); },
        [&] { bf::device_runtime(device).begin_capture(device.index); },
    };
    for (std::size_t i = 0; i < refused.size(); ++i) {
        try {
            const DeviceGraph graph(device, [&] {
                fill(x, 1);
                refused[i]();
            });
            ADD_FAILURE() << "no error for " << i;
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::runtime) << e.what();
        }
        EXPECT_EQ(values(x), repeated(10, 0)) << i;  // nothing of the capture was run
    }
    const DeviceGraph graph(device, [&] { fill(x, 5); });
    graph.launch();
    EXPECT_EQ(values(x), repeated(10, 5));
}

TEST_F(GpuGraph, WhatTheWorkThrowsEndsTheCapture) {
    const Tensor x = Tensor::zeros({10}, {.device = device});
    Tensor kept;
    EXPECT_THROW(DeviceGraph(device,
                             [&] {
                                 kept = Tensor::empty({10}, {.device = device});
                                 fill(kept, 1);
                                 fill(x, 1);
                                 throw 7;
                             }),
                 int);
    fill(kept, 2);  // its memory is ordinary memory now
    axpby(1, kept, 1, x);
    EXPECT_EQ(values(x), repeated(10, 2));
}

TEST_F(GpuGraph, ACopyFromPinnedMemoryIsPartOfIt) {
    const Tensor pinned = bf::pinned({10}, {}, device), x = Tensor::zeros({10}, {.device = device});
    const DeviceGraph graph(device, [&] { bf::copy_queued(x, pinned, Lane::compute); });
    for (const float value : {1.0f, 2.0f}) {
        std::fill_n(pinned.data<float>(), 10, value);
        graph.launch();
        EXPECT_EQ(values(x), repeated(10, value));
    }
}

// ---- what only the emulated device shows for certain

#ifdef BF_EMULATED_DEVICE
class EmulatedDevice : public OnDevice {};

TEST_F(EmulatedDevice, PinnedMemoryIsReadLate) {
    const Tensor pinned = bf::pinned({10}, {}, device), x = Tensor::empty({10}, {.device = device});
    std::fill_n(pinned.data<float>(), 10, 1.0f);
    const Event sent(device);
    bf::copy_queued(x, pinned, Lane::transfer);
    sent.record(Lane::transfer);
    std::fill_n(pinned.data<float>(), 10, 2.0f);  // too early: nobody waited
    sent.synchronize();
    EXPECT_EQ(values(x), repeated(10, 2));
}

TEST_F(EmulatedDevice, LanesThatNothingOrdersGoWrong) {
    const Tensor pinned = bf::pinned({10}, {}, device), x = Tensor::zeros({10}, {.device = device});
    std::fill_n(pinned.data<float>(), 10, 1.0f);
    bf::copy_queued(x, pinned, Lane::transfer);
    EXPECT_EQ(values(x), repeated(10, 0));  // compute does not wait for transfer
    const Tensor out = bf::pinned({10}, {}, device);
    std::fill_n(out.data<float>(), 10, -1.0f);
    const Event done(device);
    fill(x, 7);
    bf::copy_queued(out, x, Lane::transfer);
    done.record(Lane::transfer);
    done.synchronize();
    EXPECT_EQ(values(out), repeated(10, 1));  // nor transfer for compute: the fill has not run
}

TEST_F(EmulatedDevice, NewMemoryHoldsNoNumber) {
    for (const float v : values(Tensor::empty({100}, {.device = device}))) EXPECT_TRUE(std::isnan(v));
    const Tensor zeros = Tensor::zeros({100}, {.device = device});
    Tensor unwritten;
    const DeviceGraph graph(device, [&] {
        unwritten = Tensor::empty({100}, {.device = device});
        axpby(1, unwritten, 0, zeros);
        fill(unwritten, 1);
    });
    for (int i = 0; i < 2; ++i) {
        graph.launch();
        for (const float v : values(zeros)) EXPECT_TRUE(std::isnan(v)) << i;  // not what the last launch left
    }
}

TEST_F(EmulatedDevice, CountsWaitsAndLaunches) {
    const Tensor x = Tensor::empty({10}, {.device = device});
    const Event event(device);
    wait_for_device();
    const Counted counted;
    fill(x, 1);
    fill(x, 2);
    event.record(Lane::compute);
    EXPECT_FALSE(event.passed());  // the host has not waited, so nothing has run
    EXPECT_TRUE(event.passed());
    event.synchronize();
    EXPECT_EQ(counted.host_waits(), 0u);
    EXPECT_EQ(counted.launches(), 2u);
    const DeviceGraph graph(device, [&] { fill(x, 3); });
    graph.launch();
    graph.launch();
    EXPECT_EQ(counted.launches(), 2u);
    EXPECT_EQ(counted.graph_launches(), 2u);
    event.record(Lane::compute);
    event.synchronize();
    EXPECT_EQ(counted.host_waits(), 1u);
    x.rows(0, 1).item();
    EXPECT_EQ(counted.host_waits(), 2u);
    wait_for_device();
    EXPECT_EQ(counted.host_waits(), 3u);
}

TEST_F(EmulatedDevice, WhatAKernelThrowsSurfacesAtTheWait) {
    const Tensor x = Tensor::zeros({10}, {DType::i32, device});
    wait_for_device();
    axpby(1, x, 1, x);  // there is no such kernel for integers
    const Tensor y = Tensor::zeros({10}, {.device = device});
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(has(message_of(wait_for_device), "axpby")) << i;  // it stays
    bf::emulated::forget_error();
    wait_for_device();
    EXPECT_EQ(values(y), repeated(10, 0));
}

TEST_F(EmulatedDevice, ATensorOfTheHostIsNoArgumentOfItsKernels) {
    const Tensor x = Tensor::empty({10}, {.device = device});
    EXPECT_TRUE(has(message_of([&] { axpby(1, counting(10), 0, x); }), "lies elsewhere"));
}

TEST_F(EmulatedDevice, QueuedCopiesWantPinnedMemory) {
    const Tensor x = Tensor::empty({10}, {.device = device});
    EXPECT_TRUE(has(message_of([&] { bf::copy_queued(x, counting(10), Lane::transfer); }), "pinned"));
    EXPECT_TRUE(has(message_of([&] { bf::copy_queued(counting(10), x, Lane::transfer); }), "pinned"));
}

TEST_F(EmulatedDevice, EventsOfACaptureStayInside) {
    const Tensor x = Tensor::empty({10}, {.device = device});
    Event inside(device);
    {
        const DeviceGraph graph(device, [&] {
            fill(x, 1);
            inside.record(Lane::compute);
            inside.order(Lane::compute);
        });
        graph.launch();
        wait_for_device();
    }
    EXPECT_THROW(inside.passed(), bf::Error);
    EXPECT_THROW(inside.synchronize(), bf::Error);
    EXPECT_THROW(inside.order(Lane::transfer), bf::Error);
    const Event outside(device);
    outside.record(Lane::transfer);
    EXPECT_THROW(DeviceGraph(device, [&] { outside.order(Lane::compute); }), bf::Error);
    EXPECT_THROW(DeviceGraph(device, [&] { outside.synchronize(); }), bf::Error);
    // an error that the work keeps to itself breaks the capture all the same
    EXPECT_TRUE(has(message_of([&] { DeviceGraph(device, [] { message_of(wait_for_device); }); }), "broken"));
}

TEST_F(EmulatedDevice, AGraphThatIsDestroyedTooEarlyIsSeen) {
    const Tensor x = Tensor::zeros({10}, {.device = device});
    wait_for_device();
    const bf::DeviceRuntime& runtime = bf::device_runtime(device);  // DeviceGraph waits before it destroys
    runtime.begin_capture(device.index);
    fill(x, 1);
    void* graph = runtime.end_capture(device.index);
    runtime.launch(graph, device.index);
    runtime.destroy_graph(graph, device.index);
    EXPECT_TRUE(has(message_of(wait_for_device), "destroyed while a launch was queued"));
    bf::emulated::forget_error();
}

TEST_F(EmulatedDevice, Bf16IsStorage) {
    Tensor x = Tensor::from<float>({1.0f, 1.0f + 1.0f / 128, 3.1415927f, -2.0f}, {4}).to(device);
    const Tensor narrow = bf::converted(x, DType::bf16, bf::Format::plain);
    EXPECT_EQ(values(bf::converted(narrow, DType::f32, bf::Format::plain)),
              (std::vector<float>{1.0f, 1.0078125f, 3.140625f, -2.0f}));
    axpby(1, narrow, 1, narrow);  // one tensor as two arguments
    EXPECT_EQ(values(bf::converted(narrow, DType::f32, bf::Format::plain)),
              (std::vector<float>{2.0f, 2.015625f, 6.28125f, -4.0f}));
    axpby(1, narrow, 0, x);
    EXPECT_EQ(values(x)[2], 6.28125f);
    const Tensor overlapping = narrow.rows(1, 4);
    axpby(1, narrow.rows(0, 3), 0, overlapping);
    EXPECT_TRUE(has(message_of(wait_for_device), "overlap"));
    bf::emulated::forget_error();
}
#endif

}  // namespace

#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "bf/core/device_runtime.hpp"
#include "bf/kernels/dispatch.hpp"
#ifdef BF_EMULATED_DEVICE
#include "emulated/emulated.hpp"
#endif

/// The device that tests for a GPU run on: a GPU, or where the build says so one that the CPU emulates.
inline constexpr bf::Device test_device{bf::DeviceType::cuda, 0};

/// What the device of this build is called in a test's report: nothing of an emulated one may pass for a GPU's.
inline const char* test_device_kind() {
#if defined(BF_EMULATED_DEVICE)
    return "emulated";
#elif defined(BF_CUDA_ON_CPU)
    return "cuda_on_cpu";
#else
    return "gpu";
#endif
}

/// Why no device can be used; empty where one can.
inline std::string no_test_device() {
#ifdef BF_HAVE_CUDA
    try {
        bf::context(test_device);
        return "";
    } catch (const bf::Error& e) {
        return e.what();
    }
#else
    return "no CUDA backend in this build: not run on a device";
#endif
}

/// While one lives, products of f32 are not rounded and the same bits come from run to run.
class ExactDevice {
  public:
    ExactDevice() { runtime_.configure({.tf32 = false, .deterministic = true}, test_device.index); }
    ~ExactDevice() { runtime_.configure(before_, test_device.index); }
    ExactDevice(const ExactDevice&) = delete;
    ExactDevice& operator=(const ExactDevice&) = delete;

  private:
    const bf::DeviceRuntime& runtime_ = bf::device_runtime(test_device);
    bf::DeviceSettings before_ = runtime_.settings(test_device.index);
};

/// Tests of this suite are skipped, with the reason, where no device can be used.
class OnDevice : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = no_test_device(); !reason.empty()) GTEST_SKIP() << reason;
        RecordProperty("device", test_device_kind());
        exact_ = std::make_unique<ExactDevice>();
    }

  private:
    std::unique_ptr<ExactDevice> exact_;
};

#ifdef BF_EMULATED_DEVICE
/// What the emulated device counted since this was made.
class Counted {
  public:
    std::uint64_t host_waits() const { return bf::emulated::counters().host_waits - before_.host_waits; }
    std::uint64_t launches() const { return bf::emulated::counters().launches - before_.launches; }
    std::uint64_t graph_launches() const { return bf::emulated::counters().graph_launches - before_.graph_launches; }

  private:
    bf::emulated::Counters before_ = bf::emulated::counters();
};
#endif

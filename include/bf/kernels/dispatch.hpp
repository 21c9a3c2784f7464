#pragma once
#include "bf/kernels/table.hpp"

namespace bf {

/// The CPU's kernels. Linking bf::cpu brings them compiled (BF_COMPILED_CPU); without it they are compiled here.
const KernelTable& cpu_table();

/// The kernels of a device. Throws a usage Error if the device is not part of this build.
inline const KernelTable& kernels(Device device) {
    switch (device.type) {
        case DeviceType::cpu: return cpu_table();
        case DeviceType::cuda: break;
    }
    fail(ErrorCode::usage, "kernels", "no backend for ", device.name(),
         " in this build; hint: configure with -DBF_CUDA=ON");
}

/// The context in which ops run on a device.
inline Context& context(Device device) {
    BF_CHECK(device.type == DeviceType::cpu, "context", "no backend for ", device.name(), " in this build");
    static Context cpu{cpu_device, nullptr};
    return cpu;
}

}  // namespace bf

#ifndef BF_COMPILED_CPU
#include "bf/kernels/cpu_table.hpp"
#endif

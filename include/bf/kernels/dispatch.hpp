#pragma once
#include <atomic>

#include "bf/kernels/table.hpp"

namespace bf {

/// The CPU's kernels. Linking bf::cpu brings them compiled (BF_COMPILED_CPU); without it they are compiled here.
const KernelTable& cpu_table();

#ifdef BF_HAVE_CUDA
/// The kernels of NVIDIA GPUs, and the context of GPU `index` (its stream and library handles); they come with
/// bf::cuda.
const KernelTable& cuda_table();
Context& cuda_context(int index);
#endif

namespace detail {
/// A table in the place of cpu_table() while a KernelProfile measures; null: none.
inline std::atomic<const KernelTable*> measured_table{nullptr};
}  // namespace detail

/// The kernels of a device. Throws a usage Error if the device is not part of this build.
inline const KernelTable& kernels(Device device) {
    if (device.type == DeviceType::cpu) {
        const KernelTable* measured = detail::measured_table.load(std::memory_order_relaxed);
        return measured ? *measured : cpu_table();
    }
#ifdef BF_HAVE_CUDA
    return cuda_table();
#else
    no_cuda("kernels");
#endif
}

/// The context in which ops run on a device.
inline Context& context(Device device) {
    static Context cpu{cpu_device, nullptr};
    if (device.type == DeviceType::cpu) return cpu;
#ifdef BF_HAVE_CUDA
    return cuda_context(device.index);
#else
    no_cuda("device");
#endif
}

}  // namespace bf

#ifndef BF_COMPILED_CPU
#include "bf/kernels/cpu_table.hpp"
#endif

#pragma once
#include "bf/core/device.hpp"

namespace bf {

/// What every kernel is given: where it runs. A CUDA context adds its stream and library handles behind `backend`.
struct Context {
    Device device;
    void* backend = nullptr;
};

}  // namespace bf

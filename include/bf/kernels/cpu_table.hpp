#pragma once
#include "bf/kernels/cpu_classifier.hpp"
#include "bf/kernels/cpu_conv.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/kernels/cpu_norm.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_pool.hpp"
#include "bf/kernels/cpu_update.hpp"
#include "bf/kernels/dispatch.hpp"

namespace bf {

inline const KernelTable& cpu_table() {
#define BF_ENTRY(name) .name = cpu::name,
    static const KernelTable table{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
    return table;
}

}  // namespace bf

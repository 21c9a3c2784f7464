#pragma once
#include "bf/kernels/cpu_classifier.hpp"
#include "bf/kernels/cpu_conv.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/kernels/cpu_norm.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_pool.hpp"
#include "bf/kernels/cpu_update.hpp"
#include "bf/kernels/dispatch.hpp"

// Compiled, cpu_table() is src/cpu_backend.cpp's, where another library may stand in for some of these kernels.
#ifdef BF_COMPILED_CPU
#define BF_OWN_TABLE const KernelTable& own_cpu_table()
#else
#define BF_OWN_TABLE inline const KernelTable& cpu_table()
#endif

namespace bf {

BF_OWN_TABLE {
#define BF_ENTRY(name) .name = cpu::name,
    static const KernelTable table{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
    return table;
}

}  // namespace bf

#undef BF_OWN_TABLE

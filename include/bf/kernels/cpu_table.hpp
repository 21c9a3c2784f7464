#pragma once
#include "bf/kernels/cpu_classifier.hpp"
#include "bf/kernels/cpu_conv.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/kernels/cpu_norm.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_pool.hpp"
#include "bf/kernels/cpu_update.hpp"
#include "bf/kernels/dispatch.hpp"

#ifdef BF_COMPILED_CPU
#define BF_TABLE_INLINE
#else
#define BF_TABLE_INLINE inline
#endif

namespace bf {

const KernelTable& cpu_table();

BF_TABLE_INLINE const KernelTable& cpu_table() {
#define BF_ENTRY(name) .name = cpu::name,
    static const KernelTable table{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
    return table;
}

}  // namespace bf

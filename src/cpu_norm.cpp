#include "bf/kernels/cpu_norm.hpp"

#include "cpu_table.hpp"

void bf::fill_norm(KernelTable& table) { BF_NORM_KERNELS(BF_FILL) }

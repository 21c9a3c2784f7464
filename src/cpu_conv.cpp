#include "bf/kernels/cpu_conv.hpp"

#include "cpu_table.hpp"

void bf::fill_conv(KernelTable& table) { BF_CONV_KERNELS(BF_FILL) }

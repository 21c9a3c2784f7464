#include "bf/kernels/cpu_matrix.hpp"

#include "cpu_table.hpp"

void bf::fill_matrix(KernelTable& table) { BF_MATRIX_KERNELS(BF_FILL) }

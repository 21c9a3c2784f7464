#pragma once
#include "bf/kernels/table.hpp"

// The table of the kernels of this project is put together from files that are compiled side by side.

namespace bf {

void fill_classifier(KernelTable& table);
void fill_conv(KernelTable& table);
void fill_matrix(KernelTable& table);
void fill_norm(KernelTable& table);
void fill_pointwise(KernelTable& table);  // and pooling and updates, which stand on the same loops

}  // namespace bf

#define BF_FILL(name) table.name = cpu::name;

#include "bf/kernels/cpu_pointwise.hpp"

#include "bf/kernels/cpu_pool.hpp"
#include "bf/kernels/cpu_update.hpp"
#include "cpu_table.hpp"

void bf::fill_pointwise(KernelTable& table) {
    BF_POINTWISE_KERNELS(BF_FILL)
    BF_POOL_KERNELS(BF_FILL)
    BF_UPDATE_KERNELS(BF_FILL)
}

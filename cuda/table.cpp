#include "kernels.hpp"

namespace bf {

const KernelTable& cuda_table() {
#define BF_ENTRY(name) .name = cuda::name,
    static const KernelTable table{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
    return table;
}

}  // namespace bf

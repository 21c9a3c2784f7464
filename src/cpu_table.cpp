// The CPU kernels, compiled once for everything that links bf::cpu.
#include "cpu_table.hpp"

#include "bf/kernels/cpu_backend.hpp"

// cpu_table() is cpu_backend.cpp's, where another library may stand in for some of these kernels.
const bf::KernelTable& bf::own_cpu_table() {
    static const KernelTable table = [] {
        KernelTable t{};
        for (const auto fill : {fill_classifier, fill_conv, fill_matrix, fill_norm, fill_pointwise}) fill(t);
        return t;
    }();
    return table;
}

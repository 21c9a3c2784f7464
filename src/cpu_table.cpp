// The CPU kernels, compiled once for everything that links bf::cpu.
#include "bf/kernels/cpu_table.hpp"

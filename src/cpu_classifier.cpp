#include "bf/kernels/cpu_classifier.hpp"

#include "cpu_table.hpp"

void bf::fill_classifier(KernelTable& table) { BF_CLASSIFIER_KERNELS(BF_FILL) }

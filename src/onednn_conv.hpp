#pragma once
#include <string>

#include "bf/core/tensor.hpp"
#include "bf/kernels/conv.hpp"

/// Convolutions by oneDNN. Each pass is false, and nothing is written, where oneDNN has no fast kernel for the geometry
/// and type; it runs on cpu_pool(), in parts that depend on the shape alone.
namespace bf::onednn {

std::string version();
/// True where oneDNN multiplies tiles of bf16 (AMX: the processor has them, and the system lets a process use them).
bool has_amx();

bool conv2d(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& y);
bool conv2d_dx(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const Tensor& dx);
bool conv2d_dw(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw);

}  // namespace bf::onednn

#pragma once
#include "runtime.hpp"

namespace bf::cuda {

/// Device memory for use on a stream other than the backend's own (a data stream, say). `stream` at the release is the
/// one of the last use. Tensors do not need these: their memory belongs to the backend's stream.
void* allocate_on(std::size_t bytes, int index, cudaStream_t stream);
void deallocate_on(void* p, int index, cudaStream_t stream);

}  // namespace bf::cuda

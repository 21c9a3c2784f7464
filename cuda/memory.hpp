#pragma once
#include "runtime.hpp"

// Pools of memory for captured graphs; see CachingAllocator.

namespace bf::cuda {

/// Memory of this GPU belongs to a new pool from here on; its number. One pool can be open at a time.
int open_pool(int index);
void close_pool(int index);
/// The pool's memory is ordinary again. Calls nothing of CUDA.
void drop_pool(int pool, int index);

}  // namespace bf::cuda

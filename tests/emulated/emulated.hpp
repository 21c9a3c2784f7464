#pragma once
#include <cstdint>

/// What the emulated device counts, for tests that say how often a step may wait or launch.
namespace bf::emulated {

struct Counters {
    std::uint64_t host_waits = 0;      ///< times that the host waited for work: copies to it, synchronize, events
    std::uint64_t launches = 0;        ///< kernels queued one by one; those of a capture are not
    std::uint64_t graph_launches = 0;  ///< graphs queued
};
/// Since the program started.
Counters counters();

/// What a kernel threw stays, as the error of a GPU's kernel does, and comes up at every wait; this ends it.
void forget_error();

}  // namespace bf::emulated

#pragma once
#include <cstdlib>
#include <string>

#include "bf/base/error.hpp"
#include "bf/kernels/table.hpp"

namespace bf {

/// Who computes convolutions on the CPU: the variable BF_CPU_CONV. `automatic` ("auto") takes oneDNN where it was
/// measured faster: in bf16 on a processor with AMX whose tiles this build does not use itself. `onednn` takes it for
/// everything that it has a fast kernel for.
enum class CpuConv { automatic, own, onednn };

/// "auto", "own" or "onednn"; null is "auto". Anything else is a usage Error.
inline CpuConv parse_cpu_conv(const char* text) {
    const std::string word = text ? text : "auto";
    if (word == "own") return CpuConv::own;
    if (word == "onednn") return CpuConv::onednn;
    BF_CHECK(word == "auto", "BF_CPU_CONV", "got \"", word, "\", want auto, own or onednn");
    return CpuConv::automatic;
}

/// What stands behind cpu_table() beside the kernels of this project.
struct CpuBackend {
    CpuConv choice = CpuConv::automatic;
    std::string onednn;    ///< version of oneDNN; empty: this build has none
    std::string used_for;  ///< what oneDNN computes under this choice, on this processor; empty: nothing
    bool tiles = false;    ///< our own bf16 convolutions use the processor's tiles (AMX)

    /// "oneDNN 2.6.3: bf16 convolutions (AMX)", "own AMX tiles, oneDNN 2.6.3: not used", "built without oneDNN".
    std::string str() const {
        const std::string own = tiles ? "own AMX tiles, " : "";
        if (onednn.empty()) return own + "built without oneDNN";
        return own + "oneDNN " + onednn + ": " + (used_for.empty() ? "not used" : used_for);
    }
};

#ifdef BF_COMPILED_CPU
/// The backend in use. The first call of this or of cpu_table() reads BF_CPU_CONV, and throws a usage Error if that is
/// not one of the words, or asks for what this build does not have.
CpuBackend cpu_backend();
/// Takes the place of BF_CPU_CONV from now on; for tests and measurements, while no other thread runs ops. A usage
/// Error if this build has no oneDNN and it is asked for.
void choose_cpu_conv(CpuConv choice);
/// cpu_table() without oneDNN, whatever was chosen.
const KernelTable& own_cpu_table();
#else
/// Headers alone have no oneDNN: nothing is to be chosen.
inline CpuBackend cpu_backend() { return {.choice = CpuConv::own}; }
#endif

}  // namespace bf

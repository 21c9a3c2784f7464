#pragma once
#include <csignal>
#include <filesystem>
#include <memory>
#include <ostream>
#include <vector>

#include "bf/train/config.hpp"
#include "datasets.hpp"

namespace bf::program {

/// How a run is watched and stopped.
struct SessionOptions {
    bool resume = false;
    std::ostream* progress = nullptr;                  ///< nullptr: silent
    bool terminal = false;                             ///< draw a bar in place
    const volatile std::sig_atomic_t* stop = nullptr;  ///< non-zero: finish the step, save, and throw `stopped`
};

/// What a finished run leaves.
struct SessionResult {
    std::vector<Verification> last;  ///< final evaluation of each set
    double seconds = 0;              ///< of training, evaluations left out
    std::uint64_t steps = 0;
    std::filesystem::path folder;
};

/// Trains as configured into config.output: config.toml, metrics.jsonl, checkpoints/, model.safetensors, report.html.
/// With resume, continues bit for bit from the newest intact checkpoint.
SessionResult run_session(const RunConfig& config, const SessionOptions& options);

}  // namespace bf::program

#pragma once
#include <csignal>
#include <filesystem>
#include <memory>
#include <ostream>
#include <vector>

#include "bf/math/margin.hpp"
#include "bf/models/iresnet.hpp"
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

/// The margin head that a configuration names.
Margin margin_of(const RunConfig& config);
/// The network that a configuration names.
std::shared_ptr<IResNet> network_of(const RunConfig& config);

/// Trains as configured into config.output: config.toml, metrics.jsonl, checkpoints/, model.safetensors, report.html.
/// With resume, continues bit for bit from the newest intact checkpoint.
SessionResult run_session(const RunConfig& config, const SessionOptions& options);

/// Loads a network from a run folder (its config.toml and model or newest checkpoint) or a model file, whose metadata
/// names the network.
std::shared_ptr<IResNet> load_model(const std::filesystem::path& path);

}  // namespace bf::program

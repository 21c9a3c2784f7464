#pragma once
#include <memory>

#include "bf/nn/module.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/optim/optimizer.hpp"
#include "bf/optim/schedule.hpp"
#include "bf/optim/vpl.hpp"
#include "bf/optim/xbm.hpp"
#include "bf/train/config.hpp"
#include "model.hpp"

// What a configuration names, made: the parts of a training step.

namespace bf::program {

/// Sets the device and the threads up as a configuration says, before anything is made on the device.
Precision configured(const RunConfig& config, Device device);
std::unique_ptr<Optimizer> optimizer_of(const RunConfig& config, const Module& net, const Var& w);
Schedule schedule_of(const RunConfig& config, std::uint64_t steps_per_epoch, std::uint64_t total);
BroadFaceOptions broadface_options(const RunConfig& config);
/// Those of a memory that the key `memory` does not name have no queue.
XbmOptions xbm_options(const RunConfig& config);
VplOptions vpl_options(const RunConfig& config);

}  // namespace bf::program

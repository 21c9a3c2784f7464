#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "bf/core/device_runtime.hpp"
#include "bf/data/input_format.hpp"
#include "bf/math/margin_head.hpp"
#include "bf/models/network.hpp"
#include "bf/train/config.hpp"

namespace bf::program {

/// The device that `--device` or the key device names: "cpu" or "cuda". Throws a usage Error where it is not there.
Device device_of(const std::string& name);

/// How a run computes.
struct Precision {
    DType compute = DType::f32;  ///< of activations, convolutions and the classifier's products
    bool tf32 = false;
    std::string name;  ///< "f32", "tf32" or "bf16"
};
/// What the key precision asks for, settled for a device; a usage Error where the device does not have it.
Precision precision_of(const RunConfig& config, Device device);

/// What the key kept_logits_mib means on this machine, in bytes.
std::int64_t kept_bytes_of(const RunConfig& config);

/// The margin head that a configuration names.
Margin margin_of(const RunConfig& config);
/// How that head makes the margins of each row.
HeadRule head_of(const RunConfig& config);
/// The network that a configuration names.
std::shared_ptr<Module> network_of(const RunConfig& config, Device device = cpu_device, DType compute = DType::f32);
/// make_network(), compiled once for the program.
std::shared_ptr<Module> network_of(const std::string& name, const NetworkOptions& options = {});
/// What a model file says of itself.
std::map<std::string, std::string> model_metadata(const RunConfig& config);

/// The device of `--device` for evaluations: set to full f32, as the evaluations of a run on the CPU.
Device exact_device_of(const std::string& name);

/// A network with what must be known to use it.
struct Model {
    std::shared_ptr<Module> net;
    std::string network;  ///< "r100", ...
    std::int64_t embedding_size = 512, image_size = 112;
    InputFormat input{};
};

/// Loads a network from a run folder (its model or newest checkpoint) or a model file, whose metadata names the
/// network and its input (bf.input, see to_text(); without it the network's own); it computes in f32.
Model load_model(const std::filesystem::path& path, Device device = cpu_device);

}  // namespace bf::program

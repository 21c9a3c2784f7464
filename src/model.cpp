#include "model.hpp"

#include <algorithm>

#include "bf/base/version.hpp"
#include "bf/io/checkpoint.hpp"
#include "bf/kernels/dispatch.hpp"
#include "commands.hpp"

namespace bf::program {

std::map<std::string, std::string> model_metadata(const RunConfig& c) {
    return {{"bf.version", version},
            {"bf.network", c.network},
            {"bf.embedding_size", std::to_string(c.embedding_size)},
            {"bf.image_size", std::to_string(c.image_size)},
            {"bf.input", to_text(network_facts(c.network).input)}};
}

std::int64_t kept_bytes_of(const RunConfig& config) {
    const auto own = static_cast<std::int64_t>(memory_gib() * 1024 / 16);
    return (config.kept_logits_mib ? config.kept_logits_mib : std::min<std::int64_t>(own, 2048)) << 20;
}

Margin margin_of(const RunConfig& c) {
    const double m1 = c.margin_list[0], m2 = c.margin_list[1], m3 = c.margin_list[2];
    Margin m = c.loss == "arcface"                                           ? arcface(c.scale, m2)
               : c.loss == "cosface"                                         ? cosface(c.scale, m3)
               : c.loss == "combined"                                        ? combined_margin(c.scale, m1, m2, m3)
               : c.loss == "sphereface"                                      ? sphereface(c.scale, static_cast<int>(m1))
               : c.loss == "adaface"                                         ? adaface(c.scale, m3)
               : c.loss == "elasticface_arc"                                 ? arcface(c.scale, m2)
               : c.loss == "elasticface_cos"                                 ? cosface(c.scale, m3)
               : c.loss == "magface"                                         ? arcface(c.scale, 0)
               : c.loss == "curricularface" || c.loss == "subcenter_arcface" ? arcface(c.scale, m2)
                                                                             : normalized_softmax(c.scale);
    m.gradient = c.margin_gradient == "exact" ? MarginGradient::exact : MarginGradient::straight_through;
    m.easy = c.loss == "magface" && c.head.easy_margin;
    return m;
}

HeadRule head_of(const RunConfig& c) {
    const HeadConfig& h = c.head;
    return {.kind = c.loss == "adaface"                   ? HeadKind::adaface
                    : c.loss.rfind("elasticface", 0) == 0 ? HeadKind::elasticface
                    : c.loss == "magface"                 ? HeadKind::magface
                    : c.loss == "curricularface"          ? HeadKind::curricularface
                                                          : HeadKind::fixed,
            .centers = c.loss == "subcenter_arcface" ? h.centers : 1,
            .h = h.h,
            .t_alpha = h.t_alpha,
            .sigma = h.sigma,
            .seed = static_cast<std::uint64_t>(c.seed),
            .l_a = h.l_a,
            .u_a = h.u_a,
            .l_m = h.l_m,
            .u_m = h.u_m,
            .lambda_g = h.lambda_g,
            .detached = h.detached};
}

Device device_of(const std::string& name) {
    if (name == "cpu") return cpu_device;
    const Device device{DeviceType::cuda, 0};
    context(device);  // throws where the build or the machine has no GPU
    return device;
}

Device exact_device_of(const std::string& name) {
    const Device device = device_of(name);
    device_runtime(device).configure({.tf32 = false}, device.index);
    return device;
}

Precision precision_of(const RunConfig& c, Device device) {
    const bool gpu = device.type == DeviceType::cuda, has_bf16 = device_runtime(device).has_bf16(device.index);
    BF_CHECK(gpu || c.precision != "tf32", "precision",
             "tf32 wants device = \"cuda\"; got device = \"cpu\"; hint: precision = \"f32\"");
    BF_CHECK(has_bf16 || c.precision != "bf16", "precision", gpu ? "this GPU" : "this processor", " has no bf16; got ",
             device.name(), ", want ",
             gpu ? "compute capability 8.0 (Ampere) or newer" : "AVX512-BF16 or AMX (the flags of /proc/cpuinfo)",
             "; hint: precision = \"auto\" or \"f32\"");
    BF_CHECK(!c.autotune || !c.deterministic, "autotune",
             "times decide which convolutions run, so that two runs may differ; hint: with deterministic = false");
    const bool bf16 = c.precision == "bf16" || (c.precision == "auto" && gpu && has_bf16);
    if (bf16) return {DType::bf16, false, "bf16"};
    return {DType::f32, c.precision == "tf32", c.precision == "tf32" ? "tf32" : "f32"};
}

std::shared_ptr<Module> network_of(const std::string& name, const NetworkOptions& options) {
    return make_network(name, options);
}

std::shared_ptr<Module> network_of(const RunConfig& c, Device device, DType compute) {
    return network_of(c.network, {.embedding_size = c.embedding_size,
                                  .image_size = c.image_size,
                                  .dropout = c.dropout,
                                  .seed = static_cast<std::uint64_t>(c.seed),
                                  .compute = compute,
                                  .activation_checkpointing = c.activation_checkpointing,
                                  .device = device});
}

Model load_model(const std::filesystem::path& path, Device device) {
    namespace fs = std::filesystem;
    fs::path file = path;
    if (fs::is_directory(path)) {
        file = path / "model.safetensors";
        if (!fs::exists(file)) {
            BF_CHECK_DATA(fs::is_directory(path / "checkpoints"), path.string(),
                          "is not a run: neither model.safetensors nor checkpoints/");
            const auto found = CheckpointFolder(path / "checkpoints").load_latest();
            BF_CHECK_DATA(found, path.string(), "has no intact checkpoint");
            file = found->path;
        }
    }
    SafeTensors content = load_safetensors(file);
    auto& metadata = content.metadata;
    BF_CHECK_DATA(metadata.count("bf.network"), file.string(),
                  "names no network in its metadata; hint: want a model.safetensors of a bf run");
    const auto number = [&](const char* key) {
        return static_cast<std::int64_t>(std::strtoll(metadata[key].c_str(), nullptr, 10));
    };
    StateDict state = content.tensors;
    if (content.tensors.count("trainer.steps")) {
        state.clear();
        for (const auto& [name, tensor] : content.tensors)
            if (name.rfind("net.", 0) == 0) state[name.substr(4)] = tensor;
    }
    // a file may say anything: its sizes are checked before a network of them is made
    const std::int64_t dim = number("bf.embedding_size"), size = number("bf.image_size");
    BF_CHECK_DATA(dim >= 2 && dim <= 65536 && size >= 16 && size <= 1024 && size % 16 == 0, file.string(),
                  "sizes in the metadata; got embedding_size ", dim, ", image_size ", size,
                  ", want 2..65536 and a multiple of 16 in 16..1024");
    const NetworkOptions options{.embedding_size = dim, .image_size = size, .device = device};
    NetworkFacts facts;
    NetworkHead head;
    try {
        facts = network_facts(metadata["bf.network"]);
        head = network_head(facts.name, options);
    } catch (const Error& e) {
        fail(ErrorCode::data, file.string(), e.what());
    }
    const auto found = state.find(head.name);
    BF_CHECK_DATA(found != state.end() && found->second.shape() == head.shape, file.string(), head.name, "; got ",
                  found == state.end() ? "none" : found->second.str(), ", want ", head.shape.str(), " (", facts.name,
                  " of the metadata)");
    const auto input = metadata.find("bf.input");
    if (input != metadata.end()) facts.input = parse_input_format(input->second, file.string());
    const auto net = network_of(facts.name, options);
    net->load_state(state);
    net->eval();
    return {.net = net, .network = facts.name, .embedding_size = dim, .image_size = size, .input = facts.input};
}

}  // namespace bf::program

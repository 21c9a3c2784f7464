#include <charconv>
#include <cstdio>
#include <cstring>

#include "bf/base/random.hpp"
#include "bf/base/version.hpp"
#include "bf/io/npy.hpp"
#include "bf/io/onnx_writer.hpp"
#include "bf/io/safetensors.hpp"
#include "bf/nn/onnx_export.hpp"
#include "commands.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// What an exported file says of its network.
std::map<std::string, std::string> facts_of(const Model& m) {
    return {{"bf.version", version},
            {"bf.network", m.network},
            {"bf.embedding_size", std::to_string(m.embedding_size)},
            {"bf.image_size", std::to_string(m.image_size)},
            {"bf.input", to_text(m.input)}};
}

/// A usage Error if a file of this name cannot be made; found out before the work.
void check_file(const char* option, const std::string& name, const std::string& model) {
    const fs::path folder = fs::path(name).parent_path();
    BF_CHECK(folder.empty() || fs::is_directory(folder), "export", option, " ", name, ": no folder ", folder.string(),
             "; hint: mkdir -p ", folder.string());
    std::error_code ignored;
    BF_CHECK(!fs::is_directory(name, ignored), "export", option, " ", name, ": is a folder; want the name of a file");
    BF_CHECK(!fs::equivalent(name, model, ignored), "export", option, " ", name, ": is the model itself");
}

/// Images drawn at random as the exported graph takes them, and as the network does.
struct Samples {
    Tensor taken, normalised;
};
Samples draw(const Model& m, const std::string& pixels) {
    const Shape shape{3, 3, m.image_size, m.image_size};
    const std::int64_t plane = m.image_size * m.image_size;
    Tensor bytes = Tensor::empty(shape, {.dtype = DType::u8}), real = Tensor::empty(shape), x = Tensor::empty(shape);
    Rng rng(1, Stream::augment, 0);
    // squares of 8 x 8 pixels with noise: noise alone gives nearly the same embedding for every image
    const std::int64_t side = m.image_size, squares = (side + 7) / 8;
    std::vector<float> level(static_cast<std::size_t>(9 * squares * squares));
    for (float& v : level) v = rng.uniform() * 192;
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
        const std::int64_t square = i / plane * squares * squares + i % plane / side / 8 * squares + i % side / 8;
        const auto v = static_cast<std::uint8_t>(level[static_cast<std::size_t>(square)] + rng.uniform() * 64);
        bytes.data<std::uint8_t>()[i] = v;
        real.data<float>()[i] = v;
    }
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
        const std::int64_t c = i / plane % 3, from = m.input.bgr ? i + (2 - 2 * c) * plane : i;
        const auto channel = static_cast<std::size_t>(c);
        x.data<float>()[i] = real.data<float>()[from] * m.input.scale[channel] + m.input.shift[channel];
    }
    return {pixels == "u8" ? bytes : pixels == "f32" ? real : x, x};
}

void write_onnx(const ExportArguments& a, const Model& m) {
    OnnxExportOptions o{.opset = a.opset, .sample = {3, m.image_size, m.image_size}, .metadata = facts_of(m)};
    o.bytes = a.pixels == "u8";
    if (!a.pixels.empty()) o.pixels = m.input;
    // (pixel - mean) / std, the words of InsightFace's tools
    std::array<float, 3> mean{}, deviation{1, 1, 1};
    if (a.pixels.empty())
        for (std::size_t c = 0; c < 3; ++c) {
            mean[c] = -m.input.shift[c] / m.input.scale[c];
            deviation[c] = 1 / m.input.scale[c];
        }
    const auto text = [](const std::array<float, 3>& v) {
        return v[0] == v[1] && v[1] == v[2] ? concat(v[0]) : concat(v[0], ",", v[1], ",", v[2]);
    };
    const bool bgr = m.input.bgr && a.pixels.empty();
    o.metadata["input_color"] = bgr ? "BGR" : "RGB";
    o.metadata["input_mean"] = text(mean);
    o.metadata["input_std"] = text(deviation);
    const OnnxModel graph = export_onnx(*m.net, o);
    const std::uint64_t bytes = save_onnx(a.onnx, graph);
    std::printf(
        "%s: opset %d, %zu nodes, %zu initialisers, %llu bytes\n"
        "  \"input\" [batch, 3, %lld, %lld] %s, %s\n  \"embedding\" [batch, %lld] f32, not normalised\n",
        a.onnx.c_str(), a.opset, graph.nodes.size(), graph.initialisers.size(), static_cast<unsigned long long>(bytes),
        static_cast<long long>(m.image_size), static_cast<long long>(m.image_size), o.bytes ? "u8" : "f32",
        a.pixels.empty() ? to_text(m.input).c_str() : "RGB pixels 0..255", static_cast<long long>(m.embedding_size));
    const bool usual = m.input == InputFormat{};
    if (a.pixels.empty() && !usual)
        std::printf("  InsightFace's tools normalise otherwise: for them add --with-preprocessing f32\n");
    if (a.check.empty())
        std::printf("  to check it: add --check-data PREFIX, then python3 tools/check_export.py %s --data PREFIX\n",
                    a.onnx.c_str());
    else
        std::printf("  to check it: python3 tools/check_export.py %s --data %s\n", a.onnx.c_str(), a.check.c_str());
}

}  // namespace

int run_export(const ExportArguments& a) {
    BF_CHECK(!a.onnx.empty() || !a.safetensors.empty() || !a.npy.empty(), "export",
             "nothing to write; want --onnx FILE, --safetensors FILE or --npy FOLDER");
    BF_CHECK(a.pixels.empty() || !a.onnx.empty(), "export", "--with-preprocessing is of --onnx; got no --onnx FILE");
    if (!a.onnx.empty()) check_file("--onnx", a.onnx, a.model);
    if (!a.safetensors.empty()) check_file("--safetensors", a.safetensors, a.model);
    if (!a.check.empty()) check_file("--check-data", a.check + ".input.npy", a.model);
    if (!a.npy.empty()) check_output_folder(a.npy);

    const Model m = load_model(a.model);
    const StateDict state = m.net->state();
    if (!a.onnx.empty()) write_onnx(a, m);
    if (!a.safetensors.empty()) {
        save_safetensors(a.safetensors, state, facts_of(m));
        std::printf("%s: %zu tensors, %llu bytes\n", a.safetensors.c_str(), state.size(),
                    static_cast<unsigned long long>(fs::file_size(a.safetensors)));
    }
    if (!a.npy.empty()) {
        std::uint64_t bytes = 0;
        std::size_t done = 0;
        WorkProgress progress("tensors", state.size());
        for (const auto& [name, tensor] : state) {
            save_npy(fs::path(a.npy) / (name + ".npy"), tensor);
            bytes += tensor.bytes();
            progress.show(++done);
        }
        std::printf("%s: %zu tensors of %llu bytes, one file each\n", a.npy.c_str(), state.size(),
                    static_cast<unsigned long long>(bytes));
    }
    if (!a.check.empty()) {
        const NoGrad no_grad;
        const Samples s = draw(m, a.pixels);
        save_npy(a.check + ".input.npy", s.taken);
        save_npy(a.check + ".embedding.npy", (*m.net)(Var(s.normalised)).value());
        std::printf("%s.input.npy, %s.embedding.npy: three drawn inputs and their embeddings\n", a.check.c_str(),
                    a.check.c_str());
    }
    return 0;
}

}  // namespace bf::program

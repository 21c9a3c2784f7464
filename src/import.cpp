#include <cmath>
#include <cstdio>
#include <set>

#include "bf/io/npz.hpp"
#include "bf/io/onnx.hpp"
#include "bf/io/torch_file.hpp"
#include "bf/nn/onnx_match.hpp"
#include "bf/train/metrics.hpp"
#include "commands.hpp"
#include "model.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// Tensors of a file of any known kind, which its first bytes tell, not its ending.
struct Weights {
    std::string kind;
    SafeTensors content;
    std::optional<OnnxModel> graph{};  ///< of an ONNX file
};
Weights read_weights(const std::string& path) {
    const FileSource source(path);
    const std::string& name = source.name();
    BF_CHECK_DATA(source.size() >= 16, name, "got ", source.size(), " bytes; want a file of weights");
    const auto first = source.number<std::uint64_t>(0);
    const auto byte = static_cast<int>(first & 255);
    if (ZipArchive::is_zip(source)) {
        bool arrays = false;
        const ZipArchive zip(source);
        for (const ZipEntry& e : zip.entries()) {
            if (e.name.ends_with("/data.pkl")) return {"PyTorch file", load_torch_file(source)};
            arrays = arrays || e.name.ends_with(".npy");
        }
        BF_CHECK_DATA(arrays, name, "is a zip archive of neither PyTorch (NAME/data.pkl) nor NumPy (NAME.npy)");
        return {"NumPy archive", {load_npz(source), {}}};
    }
    if (first <= source.size() - 8 && source.number<char>(8) == '{')
        return {"safetensors file", load_safetensors(path)};
    if (byte == 0x80) return {"PyTorch file", load_torch_file(source)};  // the bare pickle of old: says what to do
    BF_CHECK_DATA(first != 0x112, name, "is a file of MXNet, which is not read; hint: convert it to ONNX or .npz");
    if (byte == 8) {  // ONNX has no mark of its own: this is the key of its first field, the version
        Weights w{"ONNX file", {}, read_onnx(source)};
        for (const auto& [key, t] : w.graph->initialisers) w.content.tensors[key] = t;
        w.content.metadata = w.graph->metadata;
        return w;
    }
    char text[32];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(__builtin_bswap64(first)));
    fail(ErrorCode::data, name, "is no .pth, .pt, .safetensors, .onnx or .npz; got first bytes ", text);
}

/// What stands before a name up to its n-th dot, with it; all of it has at most three parts.
std::set<std::string> prefixes_of(const StateDict& tensors) {
    std::set<std::string> all{""};
    for (const auto& [name, t] : tensors) {
        std::size_t dot = 0;
        for (int parts = 0; parts < 3 && (dot = name.find('.', dot)) != std::string::npos; ++parts)
            all.insert(name.substr(0, ++dot));
        if (all.size() > 1000) break;
    }
    return all;
}

const Tensor* find(const StateDict& tensors, const std::string& name) {
    const auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : &it->second;
}
/// Children NAME.0, NAME.1, ... that have tensors.
std::int64_t children(const StateDict& tensors, const std::string& name) {
    for (std::int64_t n = 0;; ++n) {
        const std::string child = name + "." + std::to_string(n) + ".";
        const auto it = tensors.lower_bound(child);
        if (it == tensors.end() || it->first.rfind(child, 0) != 0) return n;
    }
}

/// The network whose blocks have the names and sizes of these tensors; empty if none has.
std::string recognise(const StateDict& tensors, const std::string& prefix) {
    const auto blocks_are = [&](const std::array<std::int64_t, 4>& blocks) {
        for (std::size_t s = 0; s < 4; ++s)
            if (children(tensors, prefix + "layer" + std::to_string(s + 1)) != blocks[s]) return false;
        return true;
    };
    const auto rows = [&](const std::string& name) {
        const Tensor* t = find(tensors, prefix + name);
        return t && t->rank() > 0 ? t->dim(0) : -1;
    };
    for (const NetworkFacts& f : networks()) {
        bool found = false;
        if (f.name == "resnet50") {
            found = rows("layer1.0.conv3.weight") == 4 * ResNetOptions{}.width && blocks_are(ResNetOptions{}.blocks);
        } else if (f.name.rfind("mobilefacenet", 0) == 0) {
            const MobileFaceNetOptions o = mobilefacenet_options(f.name);
            found = rows("conv_sep.layers.0.weight") > 0 && rows("layers.0.layers.0.weight") == o.width * o.scale;
        } else {
            const IResNetOptions o = iresnet_options(f.name);
            found = rows("layer1.0.prelu.weight") == o.channels[0] && blocks_are(o.blocks);
        }
        if (found) return f.name;
    }
    return "";
}

struct Match {
    std::string network, prefix;
    bool named = false;  ///< by --network or the file
};
Match match_of(const ImportArguments& a, const Weights& w) {
    const StateDict& tensors = w.content.tensors;
    Match m{a.network, a.prefix, !a.network.empty()};
    if (const auto it = w.content.metadata.find("bf.network"); !m.named && it != w.content.metadata.end()) {
        m.network = it->second;
        m.named = true;
    }
    std::set<std::string> prefixes{a.prefix};
    if (a.prefix.empty()) prefixes = prefixes_of(tensors);
    std::vector<Match> found;
    for (const std::string& prefix : prefixes)
        if (const std::string network = recognise(tensors, prefix); !network.empty())
            if (!m.named || network_facts(m.network).name == network) found.push_back({network, prefix, m.named});
    if (found.size() > 1)
        fail(ErrorCode::data, a.in, "holds several networks, under \"", printable(found[0].prefix), "\" (",
             found[0].network, ") and \"", printable(found[1].prefix), "\" (", found[1].network, "); hint: --prefix ",
             printable(found[0].prefix));
    if (found.empty() && !m.named) {
        std::string some;
        int shown = 0;
        for (const auto& [name, t] : tensors)
            if (shown++ < 5) some += "\n  " + printable(name) + " " + t.shape().str();
        fail(ErrorCode::data, a.in, "its ", tensors.size(), " tensors have the names of no known network", some,
             tensors.size() > 5 ? "\n  ..." : "", "\nhint: ",
             w.graph ? "--network NAME looks for its layers" : "--network NAME tells which names are missing");
    }
    if (found.empty()) {  // parts are missing: the prefix under which most of the named network is there
        std::size_t most = 0;
        const StateDict wanted = network_of(m.network)->state();
        for (const std::string& prefix : prefixes) {
            const auto count = static_cast<std::size_t>(std::count_if(
                wanted.begin(), wanted.end(), [&](const auto& e) { return find(tensors, prefix + e.first); }));
            if (count > most) m.prefix = prefix;
            most = std::max(most, count);
        }
        return m;
    }
    m.prefix = found[0].prefix;
    m.network = found[0].network;
    return m;
}

/// f64 and bf16 become f32, the type that networks are loaded in; other types are not weights.
Tensor as_f32(const Tensor& t) {
    if (t.dtype() == DType::f32) return t;
    Tensor out = Tensor::empty(t.shape());
    for (std::int64_t i = 0; i < t.numel(); ++i)
        out.data<float>()[i] =
            t.dtype() == DType::f64 ? static_cast<float>(t.data<double>()[i]) : static_cast<float>(t.data<bf16>()[i]);
    return out;
}

/// The file's own normalisation as an input format. Its graph takes pixels 0..255, or 0..1 if only that leaves the
/// network values of a few units.
InputFormat input_of(const OnnxNormalisation& n) {
    double most = 0;
    for (const double scale : n.scale) most = std::max(most, std::abs(scale));
    const double unit = most > 0.25 ? 255 : 1;
    InputFormat input;
    for (std::size_t c = 0; c < 3; ++c) {
        input.scale[c] = static_cast<float>(n.scale[c] / unit);
        input.shift[c] = static_cast<float>(n.shift[c]);
    }
    return input;
}

void print_list(const char* what, const std::vector<std::string>& all) {
    std::printf("%-11s %zu%s\n", what, all.size(), all.empty() ? "" : ":");
    for (std::size_t i = 0; i < all.size() && i < 20; ++i) std::printf("  %s\n", printable(all[i]).c_str());
    if (all.size() > 20) std::printf("  ... (--json lists them all)\n");
}

}  // namespace

int run_import(const ImportArguments& a) {
    const fs::path folder = fs::path(a.out).parent_path();
    std::error_code ignored;
    BF_CHECK(folder.empty() || fs::is_directory(folder), "import", "--out ", a.out, ": no folder ", folder.string(),
             "; hint: mkdir -p ", folder.string());
    BF_CHECK(!fs::is_directory(a.out, ignored), "import", "--out ", a.out, ": is a folder; want the name of a file");
    BF_CHECK(!fs::equivalent(a.in, a.out, ignored), "import", "--out ", a.out, ": is the file to import");
    if (!a.network.empty()) network_facts(a.network);  // a wrong name is found before the work

    const Weights weights = read_weights(a.in);
    const StateDict& tensors = weights.content.tensors;
    const Match match = match_of(a, weights);
    const NetworkFacts facts = network_facts(match.network);
    NetworkOptions options{.image_size = a.image_size};
    const NetworkHead head = network_head(facts.name, options);
    const Tensor* last = find(tensors, match.prefix + head.name);
    if (last && last->rank() == 2 && last->dim(0) >= 2 && last->dim(0) <= 65536) {
        options.embedding_size = last->dim(0);
        // the last linear of an IResNet sees every place of the last image: its columns tell the image's size
        for (std::int64_t side = facts.image_step; a.image_size == 0 && side <= 1024; side += facts.image_step) {
            if (!image_size_fits(facts, side)) continue;
            const NetworkHead other = network_head(facts.name, {.image_size = side});
            if (other.shape[1] == last->dim(1) && head.shape[1] != last->dim(1)) options.image_size = side;
        }
    }
    const auto fixed = [](const std::vector<OnnxValue>& values, std::size_t i) {
        return values.size() == 1 && i < values[0].shape.size()
                   ? static_cast<std::int64_t>(std::strtoll(values[0].shape[i].c_str(), nullptr, 10))
                   : 0;  // also where the graph leaves it open
    };
    if (weights.graph) {
        const std::int64_t dim = fixed(weights.graph->outputs, 1), side = fixed(weights.graph->inputs, 3);
        if (!last && dim >= 2 && dim <= 65536) options.embedding_size = dim;
        if (options.image_size == 0 && image_size_fits(facts, side)) options.image_size = side;
    }
    // what a file of bf says of itself
    const auto& said = weights.content.metadata;
    if (const auto it = said.find("bf.image_size"); options.image_size == 0 && it != said.end())
        if (const std::int64_t side = std::strtoll(it->second.c_str(), nullptr, 10); image_size_fits(facts, side))
            options.image_size = side;
    if (a.embedding_size) options.embedding_size = a.embedding_size;
    if (options.image_size == 0) options.image_size = facts.image_size;

    const std::shared_ptr<Module> net = network_of(facts.name, options);
    StateDict state = net->state();
    // in an ONNX file, layers are found by structure where their names are gone
    OnnxMatch onnx;
    if (weights.graph) onnx = match_onnx(*weights.graph, *net, {3, options.image_size, options.image_size}, a.in);
    std::vector<std::string> missing, mismatched, unexpected = onnx.unused;
    std::set<std::string> used;
    std::size_t matched = 0, counters = 0;
    for (auto& [name, value] : state) {
        const Tensor* t = weights.graph ? find(onnx.state, name) : find(tensors, match.prefix + name);
        if (!t) {
            missing.push_back(name + " " + value.shape().str());
            continue;
        }
        used.insert(match.prefix + name);
        if (t->shape() != value.shape() ||
            (t->dtype() != DType::f32 && t->dtype() != DType::f64 && t->dtype() != DType::bf16)) {
            mismatched.push_back(
                concat(name, ": got ", t->shape(), " ", name_of(t->dtype()), ", want ", value.shape(), " f32"));
            continue;
        }
        value = as_f32(*t);
        for (const float v : value.span<float>())
            BF_CHECK_DATA(std::isfinite(v), a.in, name, ": holds ", v, "; hint: the training that made it diverged");
        ++matched;
    }
    for (const auto& [name, t] : tensors) {
        if (weights.graph || used.count(name)) continue;
        if (name.ends_with("num_batches_tracked"))
            ++counters;
        else
            unexpected.push_back(name + " " + t.shape().str());
    }
    const auto own = said.find("bf.input");
    InputFormat input = facts.input;
    if (!a.input.empty())
        input = a.input == "imagenet" ? imagenet_input() : InputFormat{.bgr = a.input == "bgr"};
    else if (own != said.end())
        input = parse_input_format(own->second, a.in);
    else if (onnx.normalisation)
        input = input_of(*onnx.normalisation);
    const bool complete = missing.empty() && mismatched.empty(), write = complete || (a.allow_missing && matched > 0);
    if (write) {
        save_safetensors(a.out, state,
                         {{"bf.version", version},
                          {"bf.network", facts.name},
                          {"bf.embedding_size", std::to_string(options.embedding_size)},
                          {"bf.image_size", std::to_string(options.image_size)},
                          {"bf.input", to_text(input)}});
    }
    if (a.json) {
        std::printf(
            "{\"kind\":\"import\",\"in\":%s,\"format\":%s,\"network\":%s,\"embedding_size\":%lld,\"image_size\":%lld,"
            "\"prefix\":%s,\"matched\":%zu,\"counters\":%zu,\"missing\":%s,\"mismatched\":%s,\"unexpected\":%s,"
            "\"folded\":%s,\"input\":%s,\"notes\":%s,\"out\":%s}\n",
            json_quote(a.in).c_str(), json_quote(weights.kind).c_str(), json_quote(facts.name).c_str(),
            static_cast<long long>(options.embedding_size), static_cast<long long>(options.image_size),
            json_quote(match.prefix).c_str(), matched, counters, json_list(missing).c_str(),
            json_list(mismatched).c_str(), json_list(unexpected).c_str(), json_list(onnx.folded).c_str(),
            json_quote(to_text(input)).c_str(), json_list(onnx.notes).c_str(),
            write ? json_quote(a.out).c_str() : "null");
    } else {
        std::printf("%s: %s of %zu tensors\nnetwork     %s (%s), %lld-d, images %lld x %lld%s\n", a.in.c_str(),
                    weights.kind.c_str(), tensors.size(), facts.name.c_str(),
                    match.named ? "as named" : "by names and sizes", static_cast<long long>(options.embedding_size),
                    static_cast<long long>(options.image_size), static_cast<long long>(options.image_size),
                    match.prefix.empty() ? "" : concat("\nprefix      ", printable(match.prefix)).c_str());
        std::printf("input       %s\n", to_text(input).c_str());
        std::printf("%-11s %zu of %zu\n", "matched", matched, state.size());
        print_list("missing", missing);
        print_list("mismatched", mismatched);
        print_list("unexpected", unexpected);
        if (weights.graph)
            std::printf("found       by %s, %zu batch norms folded into the layer before\n",
                        onnx.by_names ? "names" : "structure", onnx.folded.size());
        for (const std::string& note : onnx.notes) std::printf("note        %s\n", printable(note).c_str());
        if (counters) std::printf("%-11s %zu num_batches_tracked\n", "left out", counters);
        if (write)
            std::printf("%s: written%s\n", a.out.c_str(),
                        complete ? "" : ", with freshly drawn values where the file had none");
        std::fflush(stdout);
    }
    BF_CHECK_DATA(write, a.in, "only ", matched, " of ", state.size(), " tensors of ", facts.name,
                  " are there with their shape; nothing was written; hint: ",
                  matched ? "--allow-missing keeps freshly drawn values for the others" : "--network and --prefix");
    return 0;
}

}  // namespace bf::program

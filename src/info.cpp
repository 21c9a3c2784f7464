#include <Eigen/Core>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "bf/base/version.hpp"
#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_backend.hpp"
#include "bf/models/network.hpp"
#include "bf/train/metrics.hpp"
#include "commands.hpp"

namespace bf::program {
namespace {

#ifdef BF_HAVE_CUDA
constexpr const char* devices = "cpu, cuda";
#else
constexpr const char* devices = "cpu";
#endif

}  // namespace

std::string processor() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "unknown processor";
}
double memory_gib() {
    std::ifstream in("/proc/meminfo");
    std::string word;
    double kib = 0, limit = 0;
    in >> word >> kib;
    std::ifstream container("/sys/fs/cgroup/memory.max");  // "max": no limit
    return container >> limit ? std::min(kib / (1 << 20), limit / (1 << 30)) : kib / (1 << 20);
}

std::string build_facts() {
    return concat("bf ", version, ", ", Eigen::SimdInstructionSetsInUse(), ", Eigen ", EIGEN_WORLD_VERSION, ".",
                  EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION, ", ", cpu_backend().str(), ", compiler ", __VERSION__,
                  ", devices: ", devices, "; on ", processor(), ", ", std::thread::hardware_concurrency(), " threads");
}

int run_info(bool json) {
    if (json) {
        Record r("info");
        r.put("version", version)
            .put("simd", Eigen::SimdInstructionSetsInUse())
            .put("compiler", __VERSION__)
            .put("cpu_backend", cpu_backend().str())
            .put("amx_tiles", cpu_backend().tiles ? 1.0 : 0.0)
            .put("onednn", cpu_backend().onednn)
            .put("onednn_used_for", cpu_backend().used_for)
            .put("processor", processor())
            .put("threads", static_cast<double>(cpu_pool().threads()))
            .put("memory_gib", memory_gib());
        std::fputs(r.line().c_str(), stdout);
        return 0;
    }
    std::printf(
        "%s\n%.1f GiB memory, %d compute threads (BF_THREADS or threads = N changes that)\ndevices built: %s "
        "(bf doctor says more)\n\nnetworks (512-d):\n",
        build_facts().c_str(), memory_gib(), cpu_pool().threads(), devices);
    for (const NetworkFacts& f : networks())
        std::printf("  %-18s %8.3f GMAC at %3lld x %3lld%s\n", f.name.c_str(),
                    1e-9 * static_cast<double>(network_macs(f.name)), static_cast<long long>(f.image_size),
                    static_cast<long long>(f.image_size), f.alias.empty() ? "" : (", alias " + f.alias).c_str());
    std::printf(
        "margin heads: arcface, cosface, combined, sphereface, softmax, adaface, elasticface_arc, "
        "elasticface_cos, magface, curricularface, subcenter_arcface; exact or straight-through gradients\n"
        "images: JPEG, PNG, PGM, PPM; data: drawn faces, folders, lists, InsightFace's .rec and .bin, Omniglot\n"
        "weights: safetensors, ONNX both ways, PyTorch's .pth and .pt, .npz; arrays: .npy\n");
    return 0;
}

}  // namespace bf::program

// bf doctor: what was built, what the machine offers, and for what is missing the cause and the cure.
#include "doctor.hpp"

#include <unistd.h>

#include <Eigen/Core>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "bf/base/version.hpp"
#include "bf/core/parallel.hpp"
#include "bf/io/json.hpp"
#include "commands.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

bool on_path(const char* program) {
    const char* path = std::getenv("PATH");
    std::istringstream folders(path ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');)
        if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
    return false;
}

/// "580.65.06" out of the line "NVRM version: NVIDIA UNIX ... Kernel Module  580.65.06  Sun Jul 27 ...".
std::string kernel_driver() {
    std::ifstream in("/proc/driver/nvidia/version");
    std::string word;
    while (in >> word)
        if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos)
            return word;
    return "";
}

Findings look() {
    Findings f;
#ifdef BF_HAVE_CUDA
    f.cuda = cuda::facts();
#endif
    std::error_code error;
    f.gpu_files = fs::exists("/dev/nvidia0", error) || fs::exists("/dev/nvidiactl", error);
    f.nvidia_smi = on_path("nvidia-smi");
    f.kernel_driver = kernel_driver();
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
        f.visible_devices_set = true;
        f.visible_devices = visible;
    }
    const std::string libraries = BF_IMAGE_LIBRARIES;
    f.jpeg = libraries.find("JPEG") != std::string::npos;
    f.png = libraries.find("PNG") != std::string::npos;
    return f;
}

/// The number that a version begins with; 0 for none.
int major_of(const std::string& version) { return std::atoi(version.c_str()); }

void complain_about_driver(const Findings& found, std::vector<Complaint>& list) {
    const cuda::Facts& c = *found.cuda;
    const std::string what = "no GPU can be used";
    if (c.runtime.empty() && !c.problem.empty())
        list.push_back({what, c.problem, "take a build with CUDA toolkit 13 and cuDNN 9: cmake --preset cuda"});
    else if (found.kernel_driver.empty() && !found.gpu_files)
        list.push_back(
            {what,
             "no NVIDIA driver is loaded: the machine has no NVIDIA GPU, its driver is not installed, or "
             "this is a container that was given no GPU",
             "install NVIDIA's driver (580 or newer for CUDA 13) and start it; for a container add --gpus all; "
             "training with device = \"cpu\" needs none of this"});
    else if (c.driver.empty())
        list.push_back(
            {what, "the kernel driver is loaded, but its library libcuda.so.1 is not found",
             "install the user part of the same driver (libcuda1, or nvidia-driver-libs); in a container set "
             "NVIDIA_DRIVER_CAPABILITIES=compute,utility"});
    else if (major_of(c.driver) < major_of(c.runtime))
        list.push_back({what, concat("the driver serves CUDA ", c.driver, ", this build uses CUDA ", c.runtime),
                        "install a newer driver (580 or newer for CUDA 13), or build with an older toolkit"});
    else if (found.visible_devices_set)
        list.push_back({what,
                        concat("CUDA_VISIBLE_DEVICES is set to \"", found.visible_devices, "\", which hides GPUs"),
                        "unset CUDA_VISIBLE_DEVICES, or name GPUs that nvidia-smi lists"});
    else
        list.push_back({what, c.problem.empty() ? "the driver lists no GPU" : c.problem,
                        "nvidia-smi and the kernel log (dmesg) tell what the driver says"});
}

void complain_about_gpus(const cuda::Facts& c, std::vector<Complaint>& list) {
    int least = 0;
    std::istringstream architectures(c.architectures);
    for (std::string a; architectures >> a;)
        if (const int number = major_of(a); number > 0 && (least == 0 || number < least)) least = number;
    for (std::size_t i = 0; i < c.gpus.size(); ++i) {
        const cuda::Gpu& g = c.gpus[i];
        const int capability = 10 * g.major + g.minor;
        const std::string what = concat("cuda:", i, " (", g.name, ") cannot be used");
        if (capability < 75)
            list.push_back({what, concat("its compute capability is ", g.major, ".", g.minor),
                            "take a GPU of 7.5 (Turing) or newer, or device = \"cpu\""});
        else if (capability < least)
            list.push_back(
                {what, concat("this build holds code for ", c.architectures, ", the GPU wants ", capability),
                 concat("configure with -DCMAKE_CUDA_ARCHITECTURES=", capability, ", or cmake --preset cuda")});
    }
}

std::string gib(std::size_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
    return text;
}
const char* or_none(const std::string& text) { return text.empty() ? "not there" : text.c_str(); }

void print_text(const Findings& f, const std::vector<Complaint>& list) {
    std::printf("bf %s\n  compiler     %s\n  SIMD         %s\n  Eigen        %d.%d.%d\n  images       %s\n", version,
                __VERSION__, Eigen::SimdInstructionSetsInUse(), EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION,
                EIGEN_MINOR_VERSION, *BF_IMAGE_LIBRARIES ? BF_IMAGE_LIBRARIES : "PGM and PPM alone");
    if (f.cuda)
        std::printf("  CUDA         toolkit %s, GPU code for %s\n", f.cuda->toolkit.c_str(),
                    f.cuda->architectures.c_str());
    else
        std::printf("  CUDA         not part of this build\n");
    std::printf("machine\n  processor    %s, %u threads\n  memory       %.1f GiB\n  GPU driver   %s\n",
                processor().c_str(), std::thread::hardware_concurrency(), memory_gib(), or_none(f.kernel_driver));
    if (f.cuda) {
        std::printf(
            "  CUDA         runtime %s; newest that the driver serves: %s\n  cuBLAS       %s\n  cuDNN        %s\n  "
            "NCCL         %s\n",
            or_none(f.cuda->runtime), or_none(f.cuda->driver), or_none(f.cuda->cublas), or_none(f.cuda->cudnn),
            or_none(f.cuda->nccl));
        for (std::size_t i = 0; i < f.cuda->gpus.size(); ++i) {
            const cuda::Gpu& g = f.cuda->gpus[i];
            std::printf("  cuda:%-7zu %s, compute capability %d.%d, %s\n", i, g.name.c_str(), g.major, g.minor,
                        gib(g.memory).c_str());
        }
    }
    for (const Complaint& c : list)
        std::printf("missing: %s\n  cause: %s\n  cure:  %s\n", c.what.c_str(), c.cause.c_str(), c.cure.c_str());
    std::printf("training: on the cpu yes, on a GPU %s\n", gpu_usable(f) ? "yes" : "no");
}

void print_json(const Findings& f, const std::vector<Complaint>& list) {
    std::string text;
    const auto put = [&text](const char* key, const std::string& value) {
        text += (text.empty() ? "\"" : ",\"") + std::string(key) + "\":" + value;
    };
    put("kind", json_quote("doctor"));
    put("version", json_quote(version));
    put("compiler", json_quote(__VERSION__));
    put("simd", json_quote(Eigen::SimdInstructionSetsInUse()));
    put("images", json_quote(BF_IMAGE_LIBRARIES));
    put("processor", json_quote(processor()));
    put("threads", std::to_string(std::thread::hardware_concurrency()));
    put("memory_gib", json_number(memory_gib()));
    put("kernel_driver", json_quote(f.kernel_driver));
    put("cuda_built", f.cuda ? "true" : "false");
    if (f.cuda) {
        put("cuda_toolkit", json_quote(f.cuda->toolkit));
        put("cuda_architectures", json_quote(f.cuda->architectures));
        put("cuda_driver", json_quote(f.cuda->driver));
        put("cuda_runtime", json_quote(f.cuda->runtime));
        put("cublas", json_quote(f.cuda->cublas));
        put("cudnn", json_quote(f.cuda->cudnn));
        put("nccl", json_quote(f.cuda->nccl));
    }
    std::string gpus, missing;
    if (f.cuda)
        for (const cuda::Gpu& g : f.cuda->gpus)
            gpus += concat(gpus.empty() ? "" : ",", "{\"name\":", json_quote(g.name), ",\"compute_capability\":\"",
                           g.major, ".", g.minor, "\",\"memory\":", g.memory, "}");
    for (const Complaint& c : list)
        missing += concat(missing.empty() ? "" : ",", "{\"what\":", json_quote(c.what),
                          ",\"cause\":", json_quote(c.cause), ",\"cure\":", json_quote(c.cure), "}");
    put("gpus", "[" + gpus + "]");
    put("missing", "[" + missing + "]");
    put("cpu_training", "true");
    put("gpu_training", gpu_usable(f) ? "true" : "false");
    std::printf("{%s}\n", text.c_str());
}

}  // namespace

bool gpu_usable(const Findings& found) {
    if (!found.cuda || found.cuda->gpus.empty()) return false;
    std::vector<Complaint> list;
    complain_about_gpus(*found.cuda, list);
    return list.size() < found.cuda->gpus.size();
}

std::vector<Complaint> complaints(const Findings& found) {
    std::vector<Complaint> list;
    const bool signs = found.gpu_files || found.nvidia_smi || !found.kernel_driver.empty();
    if (!found.cuda)
        list.push_back({signs ? "this machine seems to have an NVIDIA GPU, and this build cannot use it"
                              : "the CUDA backend (of use with an NVIDIA GPU alone; no sign of one is seen here)",
                        "bf was configured with BF_CUDA=OFF, the default",
                        "with CUDA toolkit 13 and cuDNN 9: cmake --preset cuda && cmake --build --preset cuda"});
    else if (found.cuda->gpus.empty())
        complain_about_driver(found, list);
    else
        complain_about_gpus(*found.cuda, list);
    if (found.cuda && found.cuda->nccl.empty() && found.cuda->gpus.size() > 1)
        list.push_back({"NCCL (of use with several GPUs)", "libnccl.so.2 is not where the loader looks",
                        "install libnccl2, or add its folder to LD_LIBRARY_PATH"});
    if (!found.jpeg)
        list.push_back({"reading of JPEG files", "no safe decoder was there when bf was built",
                        "install libjpeg-turbo (libjpeg62-turbo-dev) or stb_image 2.30 or newer, and build again"});
    if (!found.png)
        list.push_back({"reading of PNG files", "stb_image.h was not there when bf was built",
                        "install it (libstb-dev), and build again"});
    return list;
}

int run_doctor(bool json) {
    const Findings found = look();
    const std::vector<Complaint> list = complaints(found);
    if (json)
        print_json(found, list);
    else
        print_text(found, list);
    return 0;  // this program runs, so the CPU can train
}

}  // namespace bf::program

// What bf doctor says to a machine that lacks something: causes and cures from made-up findings.
#include "doctor.hpp"

#include <gtest/gtest.h>

namespace {

using bf::program::complaints;
using bf::program::Findings;

Findings good() {
    Findings f;
    f.cuda = bf::cuda::Facts{.toolkit = "13.0",
                             .architectures = "80 90",
                             .runtime = "13.0",
                             .cublas = "13.0.2",
                             .cudnn = "9.19.0",
                             .nccl = "2.27.7",
                             .driver = "13.1",
                             .problem = "",
                             .gpus = {{"H200", 9, 0, std::size_t{140} << 30}}};
    f.gpu_files = f.nvidia_smi = true;
    f.kernel_driver = "590.10";
    return f;
}
/// Cause and cure of the only complaint.
std::string only(const Findings& f) {
    const auto list = complaints(f);
    if (list.size() != 1) return std::to_string(list.size()) + " complaints";
    EXPECT_FALSE(list[0].what.empty());
    EXPECT_FALSE(list[0].cure.empty());
    return list[0].what + "|" + list[0].cause + "|" + list[0].cure;
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Doctor, NothingIsMissing) {
    EXPECT_TRUE(complaints(good()).empty());
    EXPECT_TRUE(gpu_usable(good()));
}

TEST(Doctor, ABuildWithoutCudaTellsAUserWithAGpuWhatHeMisses) {
    Findings f;
    EXPECT_TRUE(has(only(f), "no sign of one")) << only(f);
    EXPECT_TRUE(has(only(f), "--preset cuda"));
    EXPECT_FALSE(gpu_usable(f));
    for (bool Findings::*sign : {&Findings::gpu_files, &Findings::nvidia_smi}) {
        Findings g;
        g.*sign = true;
        EXPECT_TRUE(has(only(g), "seems to have an NVIDIA GPU")) << only(g);
    }
}

TEST(Doctor, CausesOfNoGpu) {
    Findings f = good();
    f.cuda->gpus.clear();
    f.cuda->problem = "cudaGetDeviceCount: cudaErrorUnknown";
    EXPECT_FALSE(gpu_usable(f));
    EXPECT_TRUE(has(only(f), "cudaErrorUnknown")) << only(f);
    f.visible_devices_set = true;
    EXPECT_TRUE(has(only(f), "CUDA_VISIBLE_DEVICES is set to \"\"")) << only(f);
    f.cuda->driver = "12.8";
    EXPECT_TRUE(has(only(f), "serves CUDA 12.8, this build uses CUDA 13.0")) << only(f);
    f.cuda->driver = "";
    EXPECT_TRUE(has(only(f), "libcuda.so.1")) << only(f);
    f.kernel_driver = "";
    f.gpu_files = false;
    EXPECT_TRUE(has(only(f), "no NVIDIA driver is loaded")) << only(f);
    f.cuda->runtime = "";  // the libraries answered nothing, or there are none: the device is emulated
    EXPECT_TRUE(has(only(f), "cudaErrorUnknown")) << only(f);
}

TEST(Doctor, GpusThatThisBuildCannotUse) {
    Findings f = good();
    f.cuda->gpus.push_back({"GTX 1080", 6, 1, 8});
    EXPECT_TRUE(has(only(f), "cuda:1 (GTX 1080)")) << only(f);
    EXPECT_TRUE(gpu_usable(f));
    f.cuda->gpus = {{"T4", 7, 5, 16}};
    EXPECT_TRUE(has(only(f), "-DCMAKE_CUDA_ARCHITECTURES=75")) << only(f);
    EXPECT_FALSE(gpu_usable(f));
}

TEST(Doctor, LibrariesThatAreNotThere) {
    Findings f = good();
    f.cuda->nccl = "";
    EXPECT_TRUE(complaints(f).empty());  // one GPU needs none
    f.cuda->gpus.push_back(f.cuda->gpus[0]);
    EXPECT_TRUE(has(only(f), "libnccl2")) << only(f);
    f = good();
    f.jpeg = false;
    EXPECT_TRUE(has(only(f), "JPEG")) << only(f);
    f = good();
    f.png = false;
    EXPECT_TRUE(has(only(f), "PNG")) << only(f);
}

}  // namespace

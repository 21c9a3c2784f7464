#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cuda/facts.hpp"

namespace bf::program {

/// What bf doctor found out; an empty text is something that is not there.
struct Findings {
    std::optional<cuda::Facts> cuda;  ///< none: a build without CUDA
    bool gpu_files = false;           ///< /dev/nvidia0 and its like
    bool nvidia_smi = false;          ///< the program nvidia-smi is on the path
    std::string kernel_driver;        ///< version of NVIDIA's kernel driver that is loaded
    std::string visible_devices;      ///< CUDA_VISIBLE_DEVICES where it is set
    bool visible_devices_set = false;
    bool jpeg = true, png = true;  ///< images that this build reads
};

/// Something that is missing, why, and what helps.
struct Complaint {
    std::string what, cause, cure;
};
std::vector<Complaint> complaints(const Findings& found);
/// True when at least one GPU can be used by this build.
bool gpu_usable(const Findings& found);

}  // namespace bf::program

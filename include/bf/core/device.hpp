#pragma once
#include <cstdint>
#include <string>

namespace bf {

enum class DeviceType : std::uint8_t { cpu, cuda };

/// A place where tensors live and kernels run.
struct Device {
    DeviceType type = DeviceType::cpu;
    int index = 0;

    friend bool operator==(const Device&, const Device&) = default;
    std::string name() const { return type == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(index); }
};

inline constexpr Device cpu_device{};

}  // namespace bf

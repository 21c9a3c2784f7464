#include "config_toml.hpp"
#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [data, size](const bf::Source& source) {
        bf::program::parse_config(std::string(reinterpret_cast<const char*>(data), size), source.name());
    });
}

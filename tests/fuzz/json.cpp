#include "bf/io/json.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [data, size](const bf::Source& source) {
        bf::parse_json(std::string_view(reinterpret_cast<const char*>(data), size), source.name());
    });
}

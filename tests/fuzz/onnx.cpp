#include "bf/io/onnx.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [](const bf::Source& source) { bf::read_onnx(source); });
}

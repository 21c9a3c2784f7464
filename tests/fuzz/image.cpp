#include "bf/data/decode.hpp"
#include "fuzz.hpp"

// A picture may be far larger than its file: the cap of pixels bounds the memory, and is small here.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [](const bf::Source& source) {
        bf::decode_image(source.bytes(0, source.size()), source.name(), {.max_side = 512});
    });
}

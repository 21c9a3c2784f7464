#include "bf/data/verification_bin.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [data, size](const bf::Source& source) {
        const bf::VerificationBin bin(
            std::make_shared<const bf::MemorySource>(std::as_bytes(std::span(data, size)), source.name()));
        for (std::int64_t i = 0; i < bin.size(); ++i) bin.encoded(i);
    });
}

#include "bf/io/zip.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [](const bf::Source& source) {
        const bf::ZipArchive archive(source);
        for (const bf::ZipEntry& entry : archive.entries()) archive.bytes(entry);
    });
}

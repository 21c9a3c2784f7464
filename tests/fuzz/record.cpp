#include "bf/data/record_dataset.hpp"
#include "fuzz.hpp"

// The first bytes up to "|" stand for the .idx file, the rest for the .rec; without one the .rec is scanned.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [data, size](const bf::Source& source) {
        const auto bytes = std::as_bytes(std::span(data, size));
        const auto* bar = static_cast<const std::uint8_t*>(std::memchr(data, '|', size));
        const std::size_t cut = bar ? static_cast<std::size_t>(bar - data) + 1 : 0;
        const bf::MemorySource index(bytes.first(cut ? cut - 1 : 0), source.name() + " (index)");
        const bf::RecordDataset records(std::make_shared<const bf::MemorySource>(bytes.subspan(cut), source.name()),
                                        cut ? &index : nullptr, nullptr);
        for (std::int64_t i = 0; i < records.size(); ++i) records.encoded(i);
    });
}

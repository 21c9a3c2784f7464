#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bf/io/crc32c.hpp"

// Zip archives and pickles written by hand, sound or with one thing wrong, for tests of their readers.

namespace craft {

using namespace std::string_literals;

inline std::string little(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i, value >>= 8) text += static_cast<char>(value & 255);
    return text;
}

/// One file; what is set says something else than the truth.
struct ZipItem {
    std::string name, content;
    int method = 0;
    std::uint64_t flags = 0;
    std::string packed = {};  ///< the bytes of a deflated one
    std::optional<std::uint64_t> crc{}, size{}, packed_size{}, header{};
    std::string local_name = {}, extra = {};
    std::uint64_t disk = 0;
};
struct ZipEnd {
    std::optional<std::uint64_t> count{}, directory{};
    std::uint64_t disk = 0;
    std::string before = {}, after = {};  ///< bytes around the end record
};

inline std::string zip(const std::vector<ZipItem>& items, const ZipEnd& e = {}) {
    std::string out, directory;
    for (const ZipItem& i : items) {
        const std::string& bytes = i.method ? i.packed : i.content;
        const std::string sizes = little(i.crc.value_or(bf::crc32(i.content.data(), i.content.size())), 4) +
                                  little(i.packed_size.value_or(bytes.size()), 4) +
                                  little(i.size.value_or(i.content.size()), 4);
        const std::string facts = little(20, 2) + little(i.flags, 2) + little(static_cast<std::uint64_t>(i.method), 2) +
                                  little(0x210000, 4) + sizes;
        const std::string local = i.local_name.empty() ? i.name : i.local_name;
        directory += "PK\x01\x02" + little(20, 2) + facts + little(i.name.size(), 2) + little(i.extra.size(), 2) +
                     little(0, 2) + little(i.disk, 2) + little(0, 6) + little(i.header.value_or(out.size()), 4) +
                     i.name + i.extra;
        out += "PK\x03\x04" + facts + little(local.size(), 2) + little(0, 2) + local + bytes;
    }
    const std::uint64_t count = e.count.value_or(items.size());
    const std::string end = e.before + "PK\x05\x06" + little(e.disk, 2) + little(e.disk, 2) + little(count, 2) +
                            little(count, 2) + little(directory.size(), 4) +
                            little(e.directory.value_or(out.size()), 4) + little(0, 2) + e.after;
    return out + directory + end;
}

/// A .pth with this description and one storage of `elements`.
inline std::string pth(const std::string& description, const std::string& elements = std::string(16, '\x3f')) {
    return zip({{.name = "archive/data.pkl", .content = description},
                {.name = "archive/data/0", .content = elements},
                {.name = "archive/version", .content = "3\n"}});
}

inline std::string text(const std::string& s) { return "X" + little(s.size(), 4) + s; }
inline std::string integer(std::int64_t i) { return "\x8a\x08" + little(static_cast<std::uint64_t>(i), 8); }
inline std::string tuple(const std::vector<std::int64_t>& values) {
    std::string all = "(";
    for (const auto v : values) all += integer(v);
    return all + "t";
}
/// What torch.save writes for a tensor.
struct TensorText {
    std::vector<std::int64_t> size{4}, stride{1};
    std::int64_t offset = 0, elements = 4;
    std::string key = "0", type = "FloatStorage", kind = "storage";
    std::string reference = {};  ///< in the place of the whole reference to the storage
};
inline std::string tensor(const TensorText& t) {
    const std::string reference =
        "(" + text(t.kind) + "ctorch\n" + t.type + "\n" + text(t.key) + text("cpu") + integer(t.elements) + "tQ";
    return "ctorch._utils\n_rebuild_tensor_v2\n(" + (t.reference.empty() ? reference : t.reference) +
           integer(t.offset) + tuple(t.size) + tuple(t.stride) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}
/// {"w": the tensor}
inline std::string state(const TensorText& t) { return "\x80\x02}" + text("w") + tensor(t) + "s."; }

}  // namespace craft

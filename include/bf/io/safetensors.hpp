#pragma once
#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "bf/core/tensor.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/crc32c.hpp"
#include "bf/io/json.hpp"
#include "bf/io/source.hpp"

// safetensors: u64 little-endian header size, a JSON header, then the tensors without gaps. The reader checks all rules
// of the format before it allocates: header at most 100,000,000 bytes, offsets contiguous from 0 to the file's end.

namespace bf {

/// Tensors by name and free text by key.
struct SafeTensors {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, std::string> metadata;
};

/// CRC-32C over the names and bytes of tensors (of any device), continuing from `crc`.
inline std::uint32_t tensors_checksum(const std::map<std::string, Tensor>& tensors, std::uint32_t crc = 0) {
    for (const auto& [name, tensor] : tensors) {
        const Tensor here = tensor.to(cpu_device);
        crc = crc32c(here.host(), here.bytes(), crc32c(name.data(), name.size(), crc));
    }
    return crc;
}

namespace detail {
inline constexpr std::pair<DType, const char*> safetensors_types[] = {{DType::f32, "F32"},   {DType::f64, "F64"},
                                                                      {DType::bf16, "BF16"}, {DType::i32, "I32"},
                                                                      {DType::i64, "I64"},   {DType::u8, "U8"}};
inline constexpr std::uint64_t max_header = 100'000'000;
}  // namespace detail

/// Writes tensors (of any device, in plain order) and metadata atomically.
inline void save_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                             const std::map<std::string, std::string>& metadata = {}) {
    std::string header = "{";
    if (!metadata.empty()) {
        header += "\"__metadata__\":{";
        for (const auto& [key, value] : metadata) header += json_quote(key) + ":" + json_quote(value) + ",";
        header.back() = '}';
        header += ",";
    }
    std::size_t offset = 0;
    for (const auto& [name, t] : tensors) {
        BF_CHECK(t.defined() && t.format() == Format::plain, "save_safetensors", "tensor ", name,
                 " must be in plain order; got ", t.str());
        const auto* type = std::find_if(std::begin(detail::safetensors_types), std::end(detail::safetensors_types),
                                        [dtype = t.dtype()](const auto& p) { return p.first == dtype; });
        header += json_quote(name) + ":{\"dtype\":\"" + type->second + "\",\"shape\":[";
        for (int i = 0; i < t.rank(); ++i) header += (i ? "," : "") + std::to_string(t.dim(i));
        header += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + t.bytes()) + "]},";
        offset += t.bytes();
    }
    if (header.back() == ',') header.pop_back();
    header += "}";
    while (header.size() % 8) header += ' ';
    AtomicFile file(path);
    unsigned char size[8];
    for (int i = 0; i < 8; ++i)
        size[i] = static_cast<unsigned char>(static_cast<std::uint64_t>(header.size()) >> (8 * i));
    file.write(size, 8);
    file.write(header);
    for (const auto& [name, t] : tensors) {
        const Tensor here = t.to(cpu_device);
        file.write(here.host(), here.bytes());
    }
    file.commit();
}

/// Reads a file or other source; a data Error names it, the tensor and what is wrong. Beside the tensors it allocates
/// at most a small multiple of the header, which is checked against the size first.
inline SafeTensors load_safetensors(const Source& in) {
    const std::string& name = in.name();
    const std::uint64_t file_size = in.size();
    BF_CHECK_DATA(file_size >= 8, name, "file ends early: want 8 bytes of header size; got ", file_size, " bytes");
    const auto header_size = in.number<std::uint64_t>(0);
    BF_CHECK_DATA(header_size <= detail::max_header && header_size <= file_size - 8, name, "header size; got ",
                  header_size, ", want at most ", std::min(detail::max_header, file_size - 8),
                  "; hint: is it a safetensors file?");
    std::string text(header_size, '\0');
    in.read(8, std::as_writable_bytes(std::span(text)));
    BF_CHECK_DATA(!text.empty() && text[0] == '{', name, "header does not start with a brace");
    while (!text.empty() && text.back() == ' ') text.pop_back();
    BF_CHECK_DATA(text.back() == '}', name, "header is padded with something else than blanks");
    const Json header = parse_json(text, name);

    struct Entry {
        std::string name;
        DType dtype;
        Shape shape;
        std::uint64_t begin, end;
    };
    std::vector<Entry> entries;
    SafeTensors out;
    for (const auto& [key, value] : header.object) {
        BF_CHECK_DATA(value.is(Json::Kind::object), name, key, ": want an object");
        if (key == "__metadata__") {
            for (const auto& [k, v] : value.object) {
                BF_CHECK_DATA(v.is(Json::Kind::string), name, "__metadata__.", k, ": want a string");
                out.metadata[k] = v.string;
            }
            continue;
        }
        const std::string type = value.string_or("dtype", "");
        const auto* known = std::find_if(std::begin(detail::safetensors_types), std::end(detail::safetensors_types),
                                         [&type](const auto& p) { return type == p.second; });
        BF_CHECK_DATA(known != std::end(detail::safetensors_types), name, key, ": dtype; got \"", type,
                      "\", want F32, F64, BF16, I32, I64 or U8");
        const Json *shape = value.find("shape"), *offsets = value.find("data_offsets");
        BF_CHECK_DATA(shape && shape->is(Json::Kind::array) && offsets && offsets->is(Json::Kind::array) &&
                          offsets->array.size() == 2 && value.object.size() == 3,
                      name, key, ": want exactly dtype, shape and two data_offsets");
        BF_CHECK_DATA(shape->array.size() <= static_cast<std::size_t>(Shape::max_rank), name, key, ": ",
                      shape->array.size(), " dimensions, want at most ", Shape::max_rank);
        Entry e{key, known->first, {}, 0, 0};
        std::uint64_t bytes = size_of(e.dtype);
        for (const Json& d : shape->array) {
            const std::int64_t dim = d.whole();
            BF_CHECK_DATA(dim >= 0, name, key, ": shape holds something else than whole numbers");
            BF_CHECK_DATA(dim == 0 || bytes <= file_size / static_cast<std::uint64_t>(dim), name, key,
                          ": shape is larger than the file");
            bytes *= static_cast<std::uint64_t>(dim);
            e.shape.push_back(dim);
        }
        const std::int64_t begin = offsets->array[0].whole(), end = offsets->array[1].whole();
        BF_CHECK_DATA(begin >= 0 && end >= begin && static_cast<std::uint64_t>(end - begin) == bytes, name, key,
                      ": data_offsets; got [", begin, ", ", end, "], want a range of ", bytes, " bytes");
        e.begin = static_cast<std::uint64_t>(begin);
        e.end = static_cast<std::uint64_t>(end);
        entries.push_back(e);
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
    std::uint64_t at = 0;
    for (const Entry& e : entries) {
        BF_CHECK_DATA(e.begin == at, name, e.name, ": data starts at ", e.begin, ", want ", at,
                      " (tensors must neither overlap nor leave gaps)");
        at = e.end;
    }
    BF_CHECK_DATA(8 + header_size + at == file_size, name, "file size; got ", file_size, " bytes, want ",
                  8 + header_size + at, "; hint: is the file cut?");
    for (const Entry& e : entries) {
        Tensor t = Tensor::empty(e.shape, {.dtype = e.dtype});
        in.read(8 + header_size + e.begin, {static_cast<std::byte*>(t.host()), t.bytes()});
        out.tensors[e.name] = t;
    }
    return out;
}
inline SafeTensors load_safetensors(const std::filesystem::path& path) { return load_safetensors(FileSource(path)); }

}  // namespace bf

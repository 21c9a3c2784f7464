#pragma once
#include <map>

#include "bf/io/npy.hpp"
#include "bf/io/zip.hpp"

namespace bf {

/// Reads the arrays of a .npz archive by name (stored or compressed; see load_npy() and ZipArchive). All together take
/// at most four times the archive + 8 MiB. Link bf::images.
inline std::map<std::string, Tensor> load_npz(const Source& source) {
    const ZipArchive zip(source);
    const std::uint64_t most = 4 * source.size() + (std::uint64_t{8} << 20);
    std::uint64_t held = 0;
    std::map<std::string, Tensor> arrays;
    for (const ZipEntry& e : zip.entries()) {
        BF_CHECK_DATA(e.name.size() > 4 && e.name.ends_with(".npy"), source.name(), "entry ", printable(e.name),
                      " is no array; want names that end in .npy");
        const std::uint64_t unpacked = e.deflated ? e.size : 0;
        BF_CHECK_DATA(unpacked <= most - held, source.name(), "arrays unfold to more than ", most,
                      " bytes (four times the archive + 8 MiB); hint: save it uncompressed (numpy.savez)");
        std::vector<std::byte> content;
        Tensor t;
        if (e.deflated) {
            content = zip.bytes(e);
            t = load_npy(MemorySource(content, concat(source.name(), ": ", printable(e.name))), most - held - unpacked);
        } else {
            t = load_npy(zip.stored(e), most - held);
        }
        held += t.bytes();
        arrays[e.name.substr(0, e.name.size() - 4)] = t;
    }
    BF_CHECK_DATA(!arrays.empty(), source.name(), "holds no array");
    return arrays;
}
inline std::map<std::string, Tensor> load_npz(const std::filesystem::path& path) { return load_npz(FileSource(path)); }

/// Writes arrays as numpy.savez does, uncompressed: each at most 4 GiB, f32, f64, i32, i64 or u8, plain order.
inline void save_npz(const std::filesystem::path& path, const std::map<std::string, Tensor>& arrays) {
    constexpr std::uint64_t most = 0xFFFFFFFE;
    const auto put = [](std::string& to, std::uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i));
    };
    BF_CHECK(arrays.size() <= 0xFFFE, "save_npz", "got ", arrays.size(), " arrays, want at most 65534");
    std::uint64_t at = 0;
    std::string directory;
    AtomicFile file(path);
    for (const auto& [key, t] : arrays) {
        const std::string name = key + ".npy", head = npy_header(t);
        BF_CHECK(name.size() <= ZipArchive::max_name, "save_npz", "a name of ", name.size(), " bytes");
        const std::uint64_t size = head.size() + t.bytes();
        BF_CHECK(size <= most && at + size <= most, "save_npz", "more than 4 GiB; hint: save_safetensors");
        std::string facts;  // what both headers say: version 2.0, UTF-8 names, stored, 1980-01-01
        put(facts, 20, 2);
        put(facts, 0x800, 2);
        put(facts, 0, 4);
        put(facts, 0x21, 2);
        put(facts, crc32(t.host(), t.bytes(), crc32(head.data(), head.size())), 4);
        put(facts, size, 4);
        put(facts, size, 4);
        put(facts, name.size(), 2);
        put(facts, 0, 2);
        std::string local = "PK\x03\x04" + facts + name;
        directory += "PK\x01\x02";
        put(directory, 20, 2);
        directory += facts;
        directory.append(10, '\0');
        put(directory, at, 4);
        directory += name;
        file.write(local);
        file.write(head);
        file.write(t.host(), t.bytes());
        at += local.size() + size;
    }
    std::string end = "PK\x05\x06";
    put(end, 0, 4);
    put(end, arrays.size(), 2);
    put(end, arrays.size(), 2);
    put(end, directory.size(), 4);
    put(end, at, 4);
    put(end, 0, 2);
    file.write(directory);
    file.write(end);
    file.commit();
}

}  // namespace bf

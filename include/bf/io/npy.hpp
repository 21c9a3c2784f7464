#pragma once
#include <bit>
#include <filesystem>
#include <fstream>
#include <string>

#include "bf/core/tensor.hpp"
#include "bf/io/atomic_file.hpp"

namespace bf {

/// Writes a .npy file (format 1.0, C order, little-endian): f32, f64, i32, i64 or u8, plain order.
inline void save_npy(const std::filesystem::path& path, const Tensor& t) {
    static_assert(std::endian::native == std::endian::little);
    const char* type = t.dtype() == DType::f32   ? "<f4"
                       : t.dtype() == DType::f64 ? "<f8"
                       : t.dtype() == DType::i32 ? "<i4"
                       : t.dtype() == DType::i64 ? "<i8"
                                                 : "|u1";
    BF_CHECK(t.dtype() != DType::bf16 && t.format() == Format::plain, "save_npy", "tensor; got ", t.str(),
             ", want plain f32, f64, i32, i64 or u8");
    std::string shape = "(";
    for (int i = 0; i < t.rank(); ++i)
        shape += std::to_string(t.dim(i)) + (t.rank() == 1 || i + 1 < t.rank() ? ", " : "");
    if (shape.size() > 2 && shape.back() == ' ' && t.rank() == 1) shape.pop_back();
    std::string header = std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': " + shape + "), }";
    while ((10 + header.size() + 1) % 64) header += ' ';
    header += '\n';
    AtomicFile file(path);
    const unsigned char start[10] = {0x93,
                                     'N',
                                     'U',
                                     'M',
                                     'P',
                                     'Y',
                                     1,
                                     0,
                                     static_cast<unsigned char>(header.size() & 255),
                                     static_cast<unsigned char>(header.size() >> 8)};
    file.write(start, 10);
    file.write(header);
    file.write(t.host(), t.bytes());
    file.commit();
}

/// Reads a .npy file (formats 1 to 3, C order, little-endian; f4, f8, i4, i8, u1).
inline Tensor load_npy(const std::filesystem::path& path) {
    const std::string name = path.string();
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    BF_CHECK_DATA(in, name, "cannot be read; hint: does the file exist?");
    const auto file_size = static_cast<std::uint64_t>(in.tellg());
    in.seekg(0);
    unsigned char start[12] = {};
    in.read(reinterpret_cast<char*>(start), 10);
    BF_CHECK_DATA(in && start[0] == 0x93 && std::string(start + 1, start + 6) == "NUMPY", name, "not a .npy file");
    BF_CHECK_DATA(start[6] >= 1 && start[6] <= 3, name, ".npy version; got ", static_cast<int>(start[6]),
                  ", want 1..3");
    std::uint64_t size = start[8] | (std::uint64_t{start[9]} << 8), begin = 10;
    if (start[6] > 1) {
        in.read(reinterpret_cast<char*>(start + 10), 2);
        size |= (std::uint64_t{start[10]} << 16) | (std::uint64_t{start[11]} << 24);
        begin = 12;
    }
    BF_CHECK_DATA(in && size <= 65536 && begin + size <= file_size, name, "header size; got ", size,
                  " bytes of a file of ", file_size);
    std::string header(size, '\0');
    in.read(header.data(), static_cast<std::streamsize>(size));
    const auto after = [&](const char* key) {
        const std::size_t at = header.find(key);
        BF_CHECK_DATA(at != std::string::npos, name, "header has no ", key);
        return header.substr(header.find(':', at) + 1);
    };
    const std::string descr = after("'descr'"), order = after("'fortran_order'");
    const std::size_t quote = descr.find('\'');
    const std::string type = quote == std::string::npos ? "" : descr.substr(quote + 1, 3);
    DType dtype;
    if (type == "<f4")
        dtype = DType::f32;
    else if (type == "<f8")
        dtype = DType::f64;
    else if (type == "<i4")
        dtype = DType::i32;
    else if (type == "<i8")
        dtype = DType::i64;
    else if (type == "|u1")
        dtype = DType::u8;
    else
        fail(ErrorCode::data, name, "element type; got ", type, ", want <f4, <f8, <i4, <i8 or |u1");
    BF_CHECK_DATA(order.find("False") < order.find(','), name, "Fortran order; hint: save numpy.ascontiguousarray(x)");
    std::string text = after("'shape'");
    const std::size_t open = text.find('('), close = text.find(')');
    BF_CHECK_DATA(open != std::string::npos && close != std::string::npos && close > open, name, "header has no shape");
    Shape shape;
    std::uint64_t bytes = size_of(dtype);
    std::string digits;
    for (const char c : text.substr(open + 1, close - open - 1) + ",") {
        if (c >= '0' && c <= '9') {
            digits += c;
        } else if (c == ',') {
            if (digits.empty()) continue;
            BF_CHECK_DATA(digits.size() <= 18, name, "shape is larger than the file");
            const std::int64_t dim = std::stoll(digits);
            BF_CHECK_DATA(dim == 0 || bytes <= file_size / static_cast<std::uint64_t>(dim), name,
                          "shape is larger than the file");
            bytes *= static_cast<std::uint64_t>(dim);
            shape.push_back(dim);
            digits.clear();
        } else {
            BF_CHECK_DATA(c == ' ', name, "damaged shape");
        }
    }
    BF_CHECK_DATA(begin + size + bytes == file_size, name, "file size; got ", file_size, " bytes, want ",
                  begin + size + bytes);
    Tensor t = Tensor::empty(shape, {.dtype = dtype});
    in.read(static_cast<char*>(t.host()), static_cast<std::streamsize>(t.bytes()));
    BF_CHECK_DATA(in, name, "reading failed");
    return t;
}

}  // namespace bf

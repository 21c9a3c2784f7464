#pragma once
#include <array>
#include <bit>
#include <charconv>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "bf/core/tensor.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/elements.hpp"
#include "bf/io/printable.hpp"
#include "bf/io/source.hpp"

// NumPy's array files: six magic bytes, a version, a header that is a Python dict, then the elements.

namespace bf {

/// What stands before the elements of a .npy file (format 1.0, C order), as numpy writes it.
inline std::string npy_header(const Tensor& t) {
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
        shape += std::to_string(t.dim(i)) + (t.rank() == 1 ? "," : i + 1 < t.rank() ? ", " : "");
    std::string header = std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': " + shape + "), }";
    while ((10 + header.size() + 1) % 64) header += ' ';
    header += '\n';
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() & 255) +
           static_cast<char>(header.size() >> 8) + header;
}

/// Writes a .npy file, byte for byte as numpy.save does: f32, f64, i32, i64 or u8, plain order.
inline void save_npy(const std::filesystem::path& path, const Tensor& t) {
    const std::string header = npy_header(t);
    AtomicFile file(path);
    file.write(header);
    file.write(t.host(), t.bytes());
    file.commit();
}

namespace detail {

/// Reads the dict {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), } and nothing else.
class NpyHeader {
  public:
    NpyHeader(std::string text, const std::string& name) : text_(std::move(text)), name_(name) {
        want('{');
        for (int seen = 0; !take('}');) {
            const std::string key = quoted();
            want(':');
            const int bit = key == "descr" ? 1 : key == "fortran_order" ? 2 : key == "shape" ? 4 : 0;
            if (bit == 0 || (seen & bit)) bad("got the key " + printable(key, 32));
            seen |= bit;
            if (bit == 1)
                read_descr();
            else if (bit == 2)
                fortran = boolean();
            else
                read_shape();
            if (!take(',')) {
                want('}');
                if (seen != 7) bad("want the keys descr, fortran_order and shape");
                break;
            }
            if (seen == 7) {
                want('}');
                break;
            }
        }
        blanks();
        if (at_ != text_.size()) bad("text after the header");
    }
    ElementType type{};
    bool fortran = false;
    Shape shape;

  private:
    [[noreturn]] void bad(const std::string& what) const {
        fail(ErrorCode::data, name_, "npy header at character ", at_, ": ", what);
    }
    void blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    }
    bool take(char c) {
        blanks();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void want(char c) {
        if (!take(c)) bad(std::string("want ") + c);
    }
    std::string quoted() {
        blanks();
        const char quote = at_ < text_.size() ? text_[at_] : ' ';
        if (quote != '\'' && quote != '"') bad("want a string");
        const std::size_t stop = text_.find(quote, at_ + 1);
        if (stop == std::string::npos) bad("want a string");
        const std::string value = text_.substr(at_ + 1, stop - at_ - 1);
        at_ = stop + 1;
        return value;
    }
    bool boolean() {
        blanks();
        for (const bool value : {false, true}) {
            const std::string_view word = value ? "True" : "False";
            if (text_.compare(at_, word.size(), word) != 0) continue;
            at_ += word.size();
            return value;
        }
        bad("want True or False");
    }
    void read_descr() {
        blanks();
        if (at_ < text_.size() && text_[at_] == '[')
            bad("a structured array; want plain numbers; hint: save one field, x['name']");
        const std::string descr = quoted();
        static constexpr std::pair<std::string_view, ElementType> known[] = {
            {"<f2", ElementType::f16}, {"<f4", ElementType::f32},     {"<f8", ElementType::f64},
            {"|u1", ElementType::u8},  {"|b1", ElementType::boolean}, {"|i1", ElementType::i8},
            {"<i2", ElementType::i16}, {"<u2", ElementType::u16},     {"<i4", ElementType::i32},
            {"<u4", ElementType::u32}, {"<i8", ElementType::i64}};
        for (const auto& [text, value] : known)
            if (descr == text) {
                type = value;
                return;
            }
        bad(concat("element type; got ", printable(descr, 32),
                   ", want <f2, <f4, <f8, |u1, |b1, |i1, <i2, <u2, <i4, <u4 "
                   "or <i8",
                   descr.find('O') != std::string::npos ? "; an object array is a pickle, which is not read"
                                                        : "; hint: in Python, x.astype('<f4')"));
    }
    void read_shape() {
        want('(');
        while (!take(')')) {
            blanks();
            std::int64_t dim = 0;
            const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), dim);
            if (error != std::errc() || dim < 0) bad("want a size in the shape");
            at_ = static_cast<std::size_t>(stop - text_.data());
            take('L');  // a long of Python 2
            if (shape.rank() == Shape::max_rank) bad(concat("want at most ", Shape::max_rank, " dimensions"));
            shape.push_back(dim);
            if (!take(',')) {
                want(')');
                break;
            }
        }
    }

    std::string text_;
    const std::string& name_;
    std::size_t at_ = 0;
};

}  // namespace detail

/// Reads a .npy (formats 1 to 3): floats f2 (becomes f32), f4, f8; u1, b1 (u8); i1, i2, u2, i4 (i32); u4, i8 (i64), all
/// little-endian. Arrays in Fortran order come out in C order. Takes at most `most` bytes.
inline Tensor load_npy(const Source& source, std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) {
    const std::string& name = source.name();
    const auto start = source.bytes(0, 10);
    BF_CHECK_DATA(std::memcmp(start.data(), "\x93NUMPY", 6) == 0, name, "not a .npy file");
    const int file_version = std::to_integer<int>(start[6]);
    BF_CHECK_DATA(file_version >= 1 && file_version <= 3, name, ".npy version; got ", file_version, ", want 1..3");
    const std::uint64_t header_size =
                            file_version == 1 ? source.number<std::uint16_t>(8) : source.number<std::uint32_t>(8),
                        begin = file_version == 1 ? 10 : 12;
    BF_CHECK_DATA(header_size <= 65536, name, "header size; got ", header_size, ", want at most 65536");
    const auto text = source.bytes(begin, header_size);
    const detail::NpyHeader header({reinterpret_cast<const char*>(text.data()), text.size()}, name);
    const std::uint64_t element = size_of(header.type), left = source.size() - begin - header_size;
    std::uint64_t count = 1;
    for (const std::int64_t dim : header.shape) {
        BF_CHECK_DATA(dim == 0 || count <= left / static_cast<std::uint64_t>(dim), name, "shape ", header.shape.str(),
                      " is larger than the ", left, " bytes that follow");
        count *= static_cast<std::uint64_t>(dim);
    }
    BF_CHECK_DATA(count * element == left, name, "shape ", header.shape.str(), "; got ", left,
                  " bytes of elements, want ", count * element,
                  left < count * element ? "; hint: is the file cut?" : "");
    const DType dtype = dtype_for(header.type);
    BF_CHECK_DATA(count * size_of(dtype) <= most, name, "needs ", count * size_of(dtype), " bytes, want at most ",
                  most);
    Tensor t = Tensor::empty(header.shape, {.dtype = dtype});
    auto* out = static_cast<std::byte*>(t.host());
    const Shape& shape = header.shape;
    const bool transposed = header.fortran && shape.rank() > 1;
    std::vector<std::byte> in(static_cast<std::size_t>(std::min<std::uint64_t>(left, 1 << 16))), made;
    std::array<std::int64_t, Shape::max_rank> place{}, stride{};  // of the next element; of C order, in elements
    for (int i = shape.rank() - 1; i >= 0; --i)
        stride[static_cast<std::size_t>(i)] =
            i == shape.rank() - 1 ? 1 : stride[static_cast<std::size_t>(i + 1)] * shape[i + 1];
    std::int64_t to = 0;
    for (std::uint64_t done = 0; done < count;) {
        const std::uint64_t n = std::min<std::uint64_t>(in.size() / element, count - done);
        source.read(begin + header_size + done * element, std::span(in).first(static_cast<std::size_t>(n * element)));
        if (!transposed) {
            convert_elements(header.type, in.data(), static_cast<std::size_t>(n), out + done * size_of(dtype));
        } else {
            made.resize(static_cast<std::size_t>(n) * size_of(dtype));
            convert_elements(header.type, in.data(), static_cast<std::size_t>(n), made.data());
            for (std::uint64_t k = 0; k < n; ++k) {
                std::memcpy(out + static_cast<std::size_t>(to) * size_of(dtype), made.data() + k * size_of(dtype),
                            size_of(dtype));
                for (int i = 0; i < shape.rank(); ++i) {  // the first index runs fastest
                    const auto at = static_cast<std::size_t>(i);
                    to += stride[at];
                    if (++place[at] < shape[i]) break;
                    to -= stride[at] * shape[i];
                    place[at] = 0;
                }
            }
        }
        done += n;
    }
    return t;
}
inline Tensor load_npy(const std::filesystem::path& path) { return load_npy(FileSource(path)); }

}  // namespace bf

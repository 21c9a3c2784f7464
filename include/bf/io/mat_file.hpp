#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bf/io/inflate.hpp"
#include "bf/io/printable.hpp"
#include "bf/io/source.hpp"

// MATLAB's MAT-files of level 5 (MathWorks, "MAT-File Format"): what lists of images need of them, which is struct
// arrays whose fields are texts and numbers.

namespace bf {

/// A field of a struct: the text of a char array, or the number of a real array of one element.
struct MatValue {
    std::string text;
    double number = std::nan("");
};

namespace detail {

enum class MatType : std::uint32_t {
    i8 = 1,
    u8,
    i16,
    u16,
    i32,
    u32,
    f32,
    f64 = 9,
    i64 = 12,
    u64,
    matrix,
    compressed,
    utf8,
    utf16,
    utf32
};
enum class MatClass : std::uint8_t { cell = 1, structure, object, character, sparse, f64, f32, u64 = 15, opaque = 17 };

/// A data element: its type, and where its content stands.
struct MatElement {
    MatType type;
    std::uint64_t begin, end, next;  ///< next: the first byte behind it
};

/// Reads elements and arrays of a source between given bytes; each is inside the one around it.
class MatReader {
  public:
    explicit MatReader(const Source& source) : source_(source) {}

    MatElement element(std::uint64_t at, std::uint64_t end) const {
        BF_CHECK_DATA(at <= end && end - at >= 8, source_.name(), "ends inside the tag of an element at byte ", at);
        const auto tag = source_.number<std::uint32_t>(at), size = source_.number<std::uint32_t>(at + 4);
        if (tag >> 16) {  // small: size and type share four bytes, the content stands in the next four
            BF_CHECK_DATA(tag >> 16 <= 4, source_.name(), "small element at byte ", at, " of ", tag >> 16, " bytes");
            return {static_cast<MatType>(tag & 0xFFFF), at + 4, at + 4 + (tag >> 16), at + 8};
        }
        BF_CHECK_DATA(size <= end - at - 8, source_.name(), "element at byte ", at, " has ", size,
                      " bytes, but what holds it ends at byte ", end, "; hint: is the file cut?");
        const auto type = static_cast<MatType>(tag);
        // padded to 8 bytes from its own begin, which a packed variable before it may have put anywhere
        const std::uint64_t stop = at + 8 + size, padding = type == MatType::compressed ? 0 : (8 - size % 8) % 8;
        return {type, at + 8, stop, std::min(stop + padding, end)};
    }
    MatElement element(std::uint64_t at, std::uint64_t end, MatType want, const char* what) const {
        const MatElement e = element(at, end);
        BF_CHECK_DATA(e.type == want, source_.name(), what, " at byte ", at, "; got an element of type ",
                      static_cast<std::uint32_t>(e.type), ", want ", static_cast<std::uint32_t>(want));
        return e;
    }
    std::string text(const MatElement& e) const {
        BF_CHECK_DATA(e.end - e.begin <= 65536, source_.name(), "text at byte ", e.begin, " has ", e.end - e.begin,
                      " bytes, want at most 65536");
        std::string out(static_cast<std::size_t>(e.end - e.begin), '\0');
        source_.read(e.begin, std::as_writable_bytes(std::span(out)));
        return out;
    }

    /// The head of an array: class, number of elements, name; its content begins at `at`.
    struct Array {
        MatClass kind;
        std::uint64_t count;
        std::string name;
        std::uint64_t at, end;
    };
    Array array(const MatElement& e) const {
        if (e.begin == e.end) return {MatClass::f64, 0, "", e.begin, e.end};
        const MatElement flags = element(e.begin, e.end, MatType::u32, "flags of an array");
        BF_CHECK_DATA(flags.end - flags.begin == 8, source_.name(), "flags of an array at byte ", e.begin, "; got ",
                      flags.end - flags.begin, " bytes, want 8");
        const auto kind = static_cast<MatClass>(source_.number<std::uint8_t>(flags.begin));
        if (kind == MatClass::opaque) return {kind, 0, "", flags.next, e.end};  // MATLAB's objects: no sizes
        const MatElement sizes = element(flags.next, e.end, MatType::i32, "sizes of an array"),
                         name = element(sizes.next, e.end, MatType::i8, "name of an array");
        std::uint64_t count = 1;
        for (std::uint64_t at = sizes.begin; at + 4 <= sizes.end; at += 4) {
            const auto n = source_.number<std::int32_t>(at);
            BF_CHECK_DATA(n >= 0 && count * static_cast<std::uint64_t>(n) <= source_.size(), source_.name(),
                          "sizes of an array at byte ", at, " are more than the file can hold");
            count *= static_cast<std::uint64_t>(n);
        }
        return {kind, count, text(name), name.next, e.end};
    }

    MatValue value(const MatElement& e) const {
        const Array a = array(e);
        MatValue v;
        const bool numeric = a.kind >= MatClass::f64 && a.kind <= MatClass::u64;
        if (a.count == 0 || (a.kind != MatClass::character && !numeric)) return v;
        const MatElement data = element(a.at, a.end);
        if (a.kind == MatClass::character) {
            v.text = text(data);
            if (data.type == MatType::u16 || data.type == MatType::utf16) {
                std::string narrow;
                for (std::size_t i = 0; i + 1 < v.text.size(); i += 2) {
                    BF_CHECK_DATA(v.text[i + 1] == 0 && !(v.text[i] & 0x80), source_.name(), "text at byte ",
                                  data.begin, " is not ASCII");
                    narrow += v.text[i];
                }
                v.text = narrow;
            } else {
                BF_CHECK_DATA(data.type == MatType::i8 || data.type == MatType::u8 || data.type == MatType::utf8,
                              source_.name(), "text at byte ", data.begin, "; got an element of type ",
                              static_cast<std::uint32_t>(data.type), ", want characters of 1 or 2 bytes");
            }
        } else if (a.count == 1) {
            v.number = number(data);
        }
        return v;
    }

    /// Calls visit(fields) for each struct of the array in their order.
    template <class Visit>
    void structs(const Array& a, std::span<const std::string_view> fields, Visit&& visit) const {
        const MatElement width = element(a.at, a.end, MatType::i32, "length of a field's name"),
                         names = element(width.next, a.end, MatType::i8, "names of the fields");
        const auto length = width.end - width.begin == 4 ? source_.number<std::int32_t>(width.begin) : 0;
        const std::string all = text(names);
        BF_CHECK_DATA(length >= 1 && all.size() % static_cast<std::size_t>(length) == 0, source_.name(),
                      "names of the fields at byte ", names.begin, "; got ", all.size(), " bytes for names of ",
                      length);
        const std::size_t count = all.size() / static_cast<std::size_t>(length);
        std::string known;
        std::vector<std::size_t> wanted(count);
        for (std::size_t i = 0; i < count; ++i) {
            std::string_view name =
                std::string_view(all).substr(i * static_cast<std::size_t>(length), static_cast<std::size_t>(length));
            name = name.substr(0, name.find('\0'));
            known += (i ? ", " : "") + printable(name, 64);
            wanted[i] = static_cast<std::size_t>(std::find(fields.begin(), fields.end(), name) - fields.begin());
        }
        for (std::size_t f = 0; f < fields.size(); ++f)
            BF_CHECK_DATA(std::find(wanted.begin(), wanted.end(), f) != wanted.end(), source_.name(), "structs ",
                          a.name, " have no field ", fields[f], "; got ", known);
        std::vector<MatValue> values(fields.size());
        std::uint64_t at = names.next;
        for (std::uint64_t i = 0; i < a.count; ++i) {
            for (std::size_t f = 0; f < count; ++f) {
                const MatElement e = element(at, a.end, MatType::matrix, "field of a struct");
                if (wanted[f] < fields.size()) values[wanted[f]] = value(e);
                at = e.next;
            }
            visit(std::as_const(values));
        }
    }

  private:
    double number(const MatElement& e) const {
        const auto as = [&]<class T>(T) {
            BF_CHECK_DATA(e.end - e.begin == sizeof(T), source_.name(), "number at byte ", e.begin, "; got ",
                          e.end - e.begin, " bytes, want ", sizeof(T));
            return static_cast<double>(source_.number<T>(e.begin));
        };
        switch (e.type) {
            case MatType::i8: return as(std::int8_t());
            case MatType::u8: return as(std::uint8_t());
            case MatType::i16: return as(std::int16_t());
            case MatType::u16: return as(std::uint16_t());
            case MatType::i32: return as(std::int32_t());
            case MatType::u32: return as(std::uint32_t());
            case MatType::i64: return as(std::int64_t());
            case MatType::u64: return as(std::uint64_t());
            case MatType::f32: return as(float());
            case MatType::f64: return as(double());
            default: break;
        }
        fail(ErrorCode::data, source_.name(), "number at byte ", e.begin, "; got an element of type ",
             static_cast<std::uint32_t>(e.type));
    }
    const Source& source_;
};

}  // namespace detail

/// Calls visit(const std::vector<MatValue>&), in the order of `fields`, for each struct of the struct array `variable`
/// of a MAT-file of level 5, little-endian, compressed or not: at most 12 MiB unpacked and 1024 variables up to it.
/// Fields that are neither text nor one number are empty. Any other file, or one that is damaged, is a data Error with
/// the byte. Link bf::images.
template <class Visit>
void read_mat_structs(const Source& source, std::string_view variable, std::span<const std::string_view> fields,
                      Visit&& visit) {
    std::uint64_t left = std::uint64_t{12} << 20, variables = 0;
    char head[128] = {};
    BF_CHECK_DATA(source.size() >= sizeof head, source.name(), "got ", source.size(),
                  " bytes; want a MAT-file of level 5, whose head has 128");
    source.read(0, std::as_writable_bytes(std::span(head)));
    const std::string_view text(head, sizeof head);
    BF_CHECK_DATA(!text.starts_with("MATLAB 7.3"), source.name(),
                  "is a MAT-file of version 7.3 (HDF5); hint: in MATLAB, save(..., '-v7')");
    BF_CHECK_DATA(
        !text.ends_with("MI"), source.name(),
        "is a big-endian MAT-file (bytes 126 and 127); hint: in today's MATLAB, load it and save(..., '-v7')");
    BF_CHECK_DATA(text.substr(0, 4).find('\0') == std::string_view::npos, source.name(),
                  "is a MAT-file of level 4, or none (bytes 0 to 3); hint: in MATLAB, save(..., '-v7')");
    BF_CHECK_DATA(text.substr(124) == std::string_view("\0\1IM", 4), source.name(),
                  "is no little-endian MAT-file of level 5 (bytes 124 to 127)");
    std::string others;
    for (std::uint64_t at = sizeof head; at < source.size();) {
        const detail::MatReader file(source);
        detail::MatElement e = file.element(at, source.size());
        BF_CHECK_DATA(++variables <= 1024, source.name(), "more than 1024 variables before byte ", at);
        at = e.next;
        std::vector<std::byte> unpacked;
        if (e.type == detail::MatType::compressed) unpacked = inflate_zlib(source, e.begin, e.end - e.begin, left);
        left -= unpacked.size();
        const MemorySource inside(unpacked, source.name() + ", unpacked");
        const detail::MatReader reader(unpacked.empty() ? source : inside);
        if (!unpacked.empty()) e = reader.element(0, inside.size());
        if (e.type != detail::MatType::matrix) continue;
        const detail::MatReader::Array a = reader.array(e);
        if (a.name == variable) {
            BF_CHECK_DATA(a.kind == detail::MatClass::structure, source.name(), "variable ", a.name,
                          " is no struct array; got class ", static_cast<int>(a.kind));
            return reader.structs(a, fields, visit);
        }
        if (others.size() < 200) others += (others.empty() ? "" : ", ") + printable(a.name, 64);
    }
    fail(ErrorCode::data, source.name(), "has no variable ", variable, "; got ", others.empty() ? "none" : others);
}

}  // namespace bf

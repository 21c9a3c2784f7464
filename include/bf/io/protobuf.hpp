#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bf/io/source.hpp"

namespace bf {

/// How the value of a protobuf field is kept (protobuf.dev, "Encoding"); groups are not read.
enum class ProtoWire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// Makes one protobuf message, field by field, in the order of the calls. The caller knows the schema: field numbers
/// from 1 and the kind of each.
class ProtoWriter {
  public:
    /// uint64, uint32, bool and enum.
    void varint(std::uint32_t field, std::uint64_t value) {
        tag(field, ProtoWire::varint);
        raw_varint(value);
    }
    /// int64 and int32: negative numbers take ten bytes.
    void integer(std::uint32_t field, std::int64_t value) { varint(field, static_cast<std::uint64_t>(value)); }
    /// float
    void fixed32(std::uint32_t field, float value) {
        tag(field, ProtoWire::fixed32);
        little_endian(std::bit_cast<std::uint32_t>(value), 4);
    }
    /// double
    void fixed64(std::uint32_t field, double value) {
        tag(field, ProtoWire::fixed64);
        little_endian(std::bit_cast<std::uint64_t>(value), 8);
    }
    /// string and bytes
    void bytes(std::uint32_t field, std::string_view value) {
        header(field, value.size());
        text_ += value;
    }
    /// A message inside this one.
    void message(std::uint32_t field, const ProtoWriter& value) { bytes(field, value.text_); }
    /// repeated int64, packed
    void packed(std::uint32_t field, std::span<const std::int64_t> values) {
        ProtoWriter inner;
        for (const std::int64_t v : values) inner.raw_varint(static_cast<std::uint64_t>(v));
        message(field, inner);
    }
    /// repeated double, packed
    void packed(std::uint32_t field, std::span<const double> values) {
        header(field, 8 * values.size());
        for (const double v : values) little_endian(std::bit_cast<std::uint64_t>(v), 8);
    }
    /// Tag and length alone of a string, bytes or message field: the caller writes its `size` bytes itself, right
    /// behind what take() gives. So a file of several hundred MB is written without being held in memory.
    void header(std::uint32_t field, std::uint64_t size) {
        tag(field, ProtoWire::bytes);
        raw_varint(size);
    }

    std::uint64_t size() const { return text_.size(); }
    const std::string& text() const { return text_; }
    /// The bytes so far; the writer is empty afterwards.
    std::string take() { return std::exchange(text_, {}); }

  private:
    void tag(std::uint32_t field, ProtoWire wire) {
        raw_varint(std::uint64_t{field} << 3 | static_cast<std::uint64_t>(wire));
    }
    void raw_varint(std::uint64_t value) {
        for (; value >= 128; value >>= 7) text_ += static_cast<char>(value | 128);
        text_ += static_cast<char>(value);
    }
    void little_endian(std::uint64_t bits, int count) {
        for (int i = 0; i < count; ++i, bits >>= 8) text_ += static_cast<char>(bits);
    }
    std::string text_;
};

/// A field as it stands in a message.
struct ProtoField {
    std::uint32_t number = 0;
    ProtoWire wire = ProtoWire::varint;
    std::uint64_t bits = 0;    ///< of a varint, fixed32 or fixed64
    std::uint64_t offset = 0;  ///< of the value, in the source
    std::uint64_t size = 0;    ///< of the value in bytes
};

/// Reads the bytes [begin, end) of a source as one protobuf message. It holds a window of 256 bytes, allocates only
/// what text() and the lists ask for and never recurses: depth is the caller's. Every data Error names source and byte.
class ProtoReader {
  public:
    explicit ProtoReader(const Source& source) : ProtoReader(source, 0, source.size()) {}
    ProtoReader(const Source& source, std::uint64_t begin, std::uint64_t end)
        : source_(&source), position_(begin), end_(end) {
        BF_CHECK_DATA(begin <= end && end <= source.size(), source.name(), "ends early at byte ", source.size(),
                      "; want a message up to byte ", end);
    }

    /// The next field, or nothing at the end of the message. The value of a bytes field is stepped over.
    std::optional<ProtoField> next() {
        if (position_ == end_) return {};
        const std::uint64_t start = position_, tag = raw_varint();
        ProtoField f;
        BF_CHECK_DATA(tag >> 3 >= 1 && tag >> 3 < (1u << 29), source_->name(), "field number ", tag >> 3, " at byte ",
                      start, "; want 1..536870911; hint: is this a protobuf file?");
        f.number = static_cast<std::uint32_t>(tag >> 3);
        const auto wire = tag & 7;
        BF_CHECK_DATA(wire <= 2 || wire == 5, source_->name(), "wire type ", wire, " of field ", f.number, " at byte ",
                      start, "; want 0, 1, 2 or 5; hint: is this a protobuf file?");
        f.wire = static_cast<ProtoWire>(wire);
        f.offset = position_;
        if (f.wire == ProtoWire::varint) {
            f.bits = raw_varint();
            f.size = position_ - f.offset;
            return f;
        }
        f.size = f.wire == ProtoWire::bytes ? raw_varint() : f.wire == ProtoWire::fixed64 ? 8 : 4;
        f.offset = position_;
        BF_CHECK_DATA(f.size <= end_ - position_, source_->name(), "field ", f.number, " at byte ", start, " has ",
                      f.size, " bytes, but its message ends at byte ", end_, "; hint: is the file cut?");
        if (f.wire != ProtoWire::bytes)
            for (std::uint64_t i = 0; i < f.size; ++i) f.bits |= std::uint64_t{byte()} << (8 * i);
        else
            position_ += f.size;
        return f;
    }

    /// int64, int32, bool, enum.
    std::int64_t integer(const ProtoField& f) const {
        want(f, f.wire == ProtoWire::varint, "a varint");
        return static_cast<std::int64_t>(f.bits);
    }
    float f32(const ProtoField& f) const {
        want(f, f.wire == ProtoWire::fixed32, "32 bits");
        return std::bit_cast<float>(static_cast<std::uint32_t>(f.bits));
    }
    double f64(const ProtoField& f) const {
        want(f, f.wire == ProtoWire::fixed64, "64 bits");
        return std::bit_cast<double>(f.bits);
    }
    /// string or bytes of at most `most` bytes
    std::string text(const ProtoField& f, std::uint64_t most) const {
        want(f, f.wire == ProtoWire::bytes && f.size <= most, concat("text of at most ", most, " bytes"));
        std::string out(static_cast<std::size_t>(f.size), '\0');
        source_->read(f.offset, std::as_writable_bytes(std::span(out)));
        return out;
    }
    /// The message that a field holds.
    ProtoReader message(const ProtoField& f) const {
        want(f, f.wire == ProtoWire::bytes, "a message");
        return {*source_, f.offset, f.offset + f.size};
    }
    /// Appends a field of a repeated int64 (packed or one at a time); `out` then has at most `most` numbers.
    void append(const ProtoField& f, std::vector<std::int64_t>& out, std::size_t most) const {
        if (f.wire == ProtoWire::varint) {
            want(f, out.size() < most, concat("at most ", most, " numbers"));
            out.push_back(static_cast<std::int64_t>(f.bits));
            return;
        }
        for (ProtoReader inner = message(f); inner.position_ < inner.end_;) {
            want(f, out.size() < most, concat("at most ", most, " numbers"));
            out.push_back(static_cast<std::int64_t>(inner.raw_varint()));
        }
    }
    /// The same for repeated float and double; floats are widened.
    void append(const ProtoField& f, std::vector<double>& out, std::size_t most, bool is_double) const {
        const std::uint64_t each = is_double ? 8 : 4;
        want(f, f.wire != ProtoWire::varint && f.size % each == 0, concat("numbers of ", each, " bytes"));
        want(f, f.size / each <= most - std::min(most, out.size()), concat("at most ", most, " numbers"));
        for (std::uint64_t i = 0; i < f.size; i += each)
            out.push_back(is_double ? source_->number<double>(f.offset + i)
                                    : double{source_->number<float>(f.offset + i)});
    }

    const Source& source() const { return *source_; }

  private:
    void want(const ProtoField& f, bool holds, std::string_view what) const {
        BF_CHECK_DATA(holds, source_->name(), "field ", f.number, " at byte ", f.offset, "; got wire type ",
                      static_cast<int>(f.wire), " of ", f.size, " bytes, want ", what);
    }
    std::uint64_t raw_varint() {
        const std::uint64_t start = position_;
        std::uint64_t value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            const std::uint8_t b = byte();
            // the tenth byte has room for one bit
            BF_CHECK_DATA(shift < 63 || b <= 1, source_->name(), "a varint of more than 64 bits at byte ", start,
                          "; hint: is this a protobuf file?");
            value |= std::uint64_t{b & 127u} << shift;
            if (b < 128) break;
        }
        return value;
    }
    std::uint8_t byte() {
        BF_CHECK_DATA(position_ < end_, source_->name(), "a protobuf message ends in the middle of a field at byte ",
                      position_, "; hint: is the file cut?");
        if (position_ < window_begin_ || position_ >= window_begin_ + window_size_) {
            window_begin_ = position_;
            window_size_ = std::min<std::uint64_t>(window_.size(), end_ - position_);
            source_->read(position_, std::span(window_).first(static_cast<std::size_t>(window_size_)));
        }
        return static_cast<std::uint8_t>(window_[static_cast<std::size_t>(position_++ - window_begin_)]);
    }

    const Source* source_;
    std::uint64_t position_, end_;
    std::array<std::byte, 256> window_{};
    std::uint64_t window_begin_ = 0, window_size_ = 0;
};

}  // namespace bf

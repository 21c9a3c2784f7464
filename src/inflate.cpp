#include "bf/io/inflate.hpp"

#ifdef BF_HAVE_ZLIB
#include <zlib.h>
#endif

namespace bf {

#ifdef BF_HAVE_ZLIB
namespace {

/// Unpacks the stream in the bytes [offset, offset + packed): room() is where bytes may go, at least one, and took(n)
/// is told of those that came. Window bits as zlib counts them: below 0 without zlib's frame.
template <class Room, class Took>
void unpack(const Source& source, std::uint64_t offset, std::uint64_t packed, int window_bits, Room&& room,
            Took&& took) {
    const std::uint64_t end = offset + packed;
    BF_CHECK_DATA(offset <= source.size() && packed <= source.size() - offset, source.name(), "ends early at byte ",
                  source.size(), "; want ", packed, " bytes from byte ", offset);
    struct Stream : z_stream {
        explicit Stream(int bits) : z_stream{} {
            if (inflateInit2(this, bits) != Z_OK) fail(ErrorCode::runtime, "inflate", "zlib cannot start");
        }
        ~Stream() { inflateEnd(this); }
    } stream(window_bits);
    std::vector<std::byte> window(static_cast<std::size_t>(std::min<std::uint64_t>(packed, 1 << 16)));
    for (int state = Z_OK; state != Z_STREAM_END;) {
        if (stream.avail_in == 0 && offset < end) {
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), end - offset));
            source.read(offset, std::span(window).first(count));
            offset += count;
            stream.next_in = reinterpret_cast<Bytef*>(window.data());
            stream.avail_in = static_cast<uInt>(count);
        }
        const std::span<std::byte> out = room();
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(std::min<std::size_t>(out.size(), std::size_t{1} << 30));
        const uInt before = stream.avail_out;
        state = ::inflate(&stream, Z_NO_FLUSH);
        BF_CHECK_DATA(state == Z_OK || state == Z_STREAM_END, source.name(), "damaged deflate stream before byte ",
                      offset, ": ", stream.msg ? stream.msg : "it ends early");
        took(std::size_t{before - stream.avail_out}, offset);
    }
    BF_CHECK_DATA(offset == end && stream.avail_in == 0, source.name(), "deflate stream ends at byte ",
                  offset - stream.avail_in, ", want ", end);
}

void unpack_exactly(const Source& source, std::uint64_t offset, std::uint64_t packed, int window_bits,
                    std::span<std::byte> out) {
    std::byte beyond{};  // room for one byte more than there should be
    std::size_t done = 0;
    unpack(
        source, offset, packed, window_bits,
        [&] { return done < out.size() ? out.subspan(done) : std::span(&beyond, 1); },
        [&](std::size_t got, std::uint64_t at) {
            BF_CHECK_DATA(got <= out.size() - done, source.name(), "deflate stream before byte ", at,
                          " holds more than the ", out.size(), " bytes that its entry says");
            done += got;
        });
    BF_CHECK_DATA(done == out.size(), source.name(), "deflate stream at byte ", offset, "; got ", done, " bytes, want ",
                  out.size());
}

}  // namespace

void inflate(const Source& source, std::uint64_t offset, std::uint64_t packed, std::span<std::byte> out) {
    unpack_exactly(source, offset, packed, -MAX_WBITS, out);
}

std::vector<std::byte> inflate_zlib(const Source& source, std::uint64_t offset, std::uint64_t packed,
                                    std::uint64_t most) {
    std::vector<std::byte> scratch(1 << 16);
    std::uint64_t size = 0;
    unpack(
        source, offset, packed, MAX_WBITS, [&] { return std::span(scratch); },
        [&](std::size_t got, std::uint64_t) {
            size += got;
            BF_CHECK_DATA(size <= most, source.name(), "zlib stream at byte ", offset, " unpacks to more than ", most,
                          " bytes");
        });
    std::vector<std::byte> out(static_cast<std::size_t>(size));
    unpack_exactly(source, offset, packed, MAX_WBITS, out);
    return out;
}
#else
void inflate(const Source& source, std::uint64_t, std::uint64_t, std::span<std::byte>) {
    fail(ErrorCode::data, source.name(),
         "is compressed (deflate), and zlib is not part of this build; hint: save it uncompressed (numpy.savez), or "
         "install zlib1g-dev and configure again");
}
std::vector<std::byte> inflate_zlib(const Source& source, std::uint64_t, std::uint64_t, std::uint64_t) {
    fail(ErrorCode::data, source.name(),
         "is compressed, and zlib is not part of this build; hint: install zlib1g-dev and configure again");
}
#endif

}  // namespace bf

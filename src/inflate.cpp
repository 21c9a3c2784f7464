#include "bf/io/inflate.hpp"

#ifdef BF_HAVE_ZLIB
#include <zlib.h>
#endif

namespace bf {

#ifdef BF_HAVE_ZLIB
void inflate(const Source& source, std::uint64_t offset, std::uint64_t packed, std::span<std::byte> out) {
    const std::uint64_t end = offset + packed;
    BF_CHECK_DATA(offset <= source.size() && packed <= source.size() - offset, source.name(), "ends early at byte ",
                  source.size(), "; want ", packed, " bytes from byte ", offset);
    struct Stream : z_stream {
        Stream() : z_stream{} {
            if (inflateInit2(this, -MAX_WBITS) != Z_OK) fail(ErrorCode::runtime, "inflate", "zlib cannot start");
        }
        ~Stream() { inflateEnd(this); }
    } stream;
    std::vector<std::byte> window(static_cast<std::size_t>(std::min<std::uint64_t>(packed, 1 << 16)));
    std::byte beyond{};  // room for one byte more than there should be
    std::size_t done = 0;
    for (int state = Z_OK; state != Z_STREAM_END;) {
        if (stream.avail_in == 0 && offset < end) {
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), end - offset));
            source.read(offset, std::span(window).first(count));
            offset += count;
            stream.next_in = reinterpret_cast<Bytef*>(window.data());
            stream.avail_in = static_cast<uInt>(count);
        }
        const std::size_t room = std::min<std::size_t>(out.size() - done, std::size_t{1} << 30);
        stream.next_out = reinterpret_cast<Bytef*>(room ? out.data() + done : &beyond);
        stream.avail_out = static_cast<uInt>(room ? room : 1);
        const uInt before = stream.avail_out;
        state = ::inflate(&stream, Z_NO_FLUSH);
        BF_CHECK_DATA(state == Z_OK || state == Z_STREAM_END, source.name(), "damaged deflate stream before byte ",
                      offset, ": ", stream.msg ? stream.msg : "it ends early");
        const std::size_t got = before - stream.avail_out;
        BF_CHECK_DATA(room || got == 0, source.name(), "deflate stream before byte ", offset, " holds more than the ",
                      out.size(), " bytes that its entry says");
        done += got;
    }
    BF_CHECK_DATA(done == out.size() && offset == end && stream.avail_in == 0, source.name(), "deflate stream; got ",
                  done, " bytes of ", packed - (end - offset) - stream.avail_in, ", want ", out.size(), " of ", packed);
}
#else
void inflate(const Source& source, std::uint64_t, std::uint64_t, std::span<std::byte>) {
    fail(ErrorCode::data, source.name(),
         "is compressed (deflate), and zlib is not part of this build; hint: save it uncompressed (numpy.savez), or "
         "install zlib1g-dev and configure again");
}
#endif

}  // namespace bf

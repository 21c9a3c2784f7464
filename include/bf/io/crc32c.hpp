#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace bf {

namespace detail {
/// A reflected 32-bit CRC by its reversed polynomial.
template <std::uint32_t polynomial>
std::uint32_t reflected_crc(const void* data, std::size_t size, std::uint32_t crc) {
    // eight tables: eight bytes a turn
    static const auto tables = [] {
        std::array<std::array<std::uint32_t, 256>, 8> t{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (c & 1 ? polynomial : 0);
            t[0][i] = c;
        }
        for (std::size_t n = 1; n < 8; ++n)
            for (std::size_t i = 0; i < 256; ++i) t[n][i] = (t[n - 1][i] >> 8) ^ t[0][t[n - 1][i] & 255];
        return t;
    }();
    const auto* p = static_cast<const unsigned char*>(data);
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        const std::uint32_t low =
            crc ^ (p[0] | (std::uint32_t{p[1]} << 8) | (std::uint32_t{p[2]} << 16) | (std::uint32_t{p[3]} << 24));
        crc = tables[7][low & 255] ^ tables[6][(low >> 8) & 255] ^ tables[5][(low >> 16) & 255] ^ tables[4][low >> 24] ^
              tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
    }
    for (; size > 0; --size, ++p) crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 255];
    return ~crc;
}
}  // namespace detail

/// CRC-32C (Castagnoli, RFC 3720) of `size` bytes, continuing from `crc`.
inline std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t crc = 0) {
    return detail::reflected_crc<0x82F63B78u>(data, size, crc);
}
/// CRC-32 (ISO 3309; that of zip and PNG files).
inline std::uint32_t crc32(const void* data, std::size_t size, std::uint32_t crc = 0) {
    return detail::reflected_crc<0xEDB88320u>(data, size, crc);
}

}  // namespace bf

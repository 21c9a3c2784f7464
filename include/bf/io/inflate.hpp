#pragma once
#include <cstdint>
#include <span>

#include "bf/io/source.hpp"

namespace bf {

/// Unpacks the raw deflate stream (RFC 1951) in the bytes [offset, offset + packed) of `source` to exactly fill `out`;
/// a data Error if it is damaged, shorter or longer, or if the build has no zlib. Link bf::images.
void inflate(const Source& source, std::uint64_t offset, std::uint64_t packed, std::span<std::byte> out);

/// Unpacks the zlib stream (RFC 1950) in those bytes, whose size it does not say: at most `most` bytes, found in a
/// first pass, so that no more memory is taken than the result needs.
std::vector<std::byte> inflate_zlib(const Source& source, std::uint64_t offset, std::uint64_t packed,
                                    std::uint64_t most);

}  // namespace bf

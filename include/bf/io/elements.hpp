#pragma once
#include <bit>
#include <cstring>

#include "bf/core/tensor.hpp"

// Element types of files, and what they become in a Tensor.

namespace bf {

/// An element type that other programs write, little-endian.
enum class ElementType : std::uint8_t { f16, bf16, f32, f64, boolean, u8, i8, i16, u16, i32, u32, i64 };

/// Bytes of one element in the file.
constexpr std::size_t size_of(ElementType t) {
    switch (t) {
        case ElementType::boolean:
        case ElementType::u8:
        case ElementType::i8: return 1;
        case ElementType::f16:
        case ElementType::bf16:
        case ElementType::i16:
        case ElementType::u16: return 2;
        case ElementType::f32:
        case ElementType::i32:
        case ElementType::u32: return 4;
        case ElementType::f64:
        case ElementType::i64: return 8;
    }
    return 0;
}

/// The dtype that holds every value: f16 widens to f32, boolean to u8 (0 or 1), i8, i16 and u16 to i32, u32 to i64.
constexpr DType dtype_for(ElementType t) {
    switch (t) {
        case ElementType::f16:
        case ElementType::f32: return DType::f32;
        case ElementType::bf16: return DType::bf16;
        case ElementType::f64: return DType::f64;
        case ElementType::boolean:
        case ElementType::u8: return DType::u8;
        case ElementType::i8:
        case ElementType::i16:
        case ElementType::u16:
        case ElementType::i32: return DType::i32;
        case ElementType::u32:
        case ElementType::i64: return DType::i64;
    }
    return DType::f32;
}

/// IEEE 754 binary16 to binary32, exact; NaNs keep their payload.
inline float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3FFu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (fraction << 13));
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
        const float value = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -value : value;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

namespace detail {
template <class From, class To, class Convert>
void convert_each(const std::byte* from, std::size_t count, std::byte* to, Convert&& convert) {
    for (std::size_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * sizeof(From), sizeof(From));
        const To made = convert(value);
        std::memcpy(to + i * sizeof(To), &made, sizeof(To));
    }
}
}  // namespace detail

/// Converts `count` elements to dtype_for(type). Neither side need be aligned.
inline void convert_elements(ElementType type, const std::byte* from, std::size_t count, std::byte* to) {
    const auto to_i32 = [](auto v) { return static_cast<std::int32_t>(v); };
    switch (type) {
        case ElementType::f16: return detail::convert_each<std::uint16_t, float>(from, count, to, half_to_float);
        case ElementType::boolean:
            return detail::convert_each<std::uint8_t, std::uint8_t>(
                from, count, to, [](std::uint8_t v) { return static_cast<std::uint8_t>(v != 0); });
        case ElementType::i8: return detail::convert_each<std::int8_t, std::int32_t>(from, count, to, to_i32);
        case ElementType::i16: return detail::convert_each<std::int16_t, std::int32_t>(from, count, to, to_i32);
        case ElementType::u16: return detail::convert_each<std::uint16_t, std::int32_t>(from, count, to, to_i32);
        case ElementType::u32:
            return detail::convert_each<std::uint32_t, std::int64_t>(
                from, count, to, [](std::uint32_t v) { return static_cast<std::int64_t>(v); });
        default:
            if (count) std::memcpy(to, from, count * size_of(type));
    }
}

}  // namespace bf

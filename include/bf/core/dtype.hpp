#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "bf/base/error.hpp"

namespace bf {

/// Element type of a tensor. f32 and f64 compute everywhere; bf16 is a storage type.
enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8 };

/// bfloat16: the upper half of an f32, rounded to nearest even.
struct bf16 {
    std::uint16_t bits = 0;

    bf16() = default;
    explicit bf16(float value) {
        const auto word = std::bit_cast<std::uint32_t>(value);
        const bool is_nan = (word & 0x7FFFFFFFu) > 0x7F800000u;
        bits = is_nan ? static_cast<std::uint16_t>((word >> 16) | 0x40u)
                      : static_cast<std::uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

constexpr std::size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::i32: return 4;
        case DType::f64:
        case DType::i64: return 8;
        case DType::bf16: return 2;
        case DType::u8: return 1;
    }
    return 0;
}

constexpr const char* name_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return "f32";
        case DType::f64: return "f64";
        case DType::bf16: return "bf16";
        case DType::i32: return "i32";
        case DType::i64: return "i64";
        case DType::u8: return "u8";
    }
    return "?";
}

// clang-format off
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> { static constexpr DType value = DType::f32; };
template <>
struct DTypeOf<double> { static constexpr DType value = DType::f64; };
template <>
struct DTypeOf<bf16> { static constexpr DType value = DType::bf16; };
template <>
struct DTypeOf<std::int32_t> { static constexpr DType value = DType::i32; };
template <>
struct DTypeOf<std::int64_t> { static constexpr DType value = DType::i64; };
template <>
struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::u8; };
// clang-format on

/// The DType of a C++ element type.
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

/// Calls `f.template operator()<T>()` with T = float or double; any other dtype is an error that names `op`.
template <class F>
decltype(auto) visit_real(DType dtype, const char* op, F&& f) {
    if (dtype == DType::f32) return f.template operator()<float>();
    if (dtype == DType::f64) return f.template operator()<double>();
    fail(ErrorCode::usage, op, "dtype not supported; got ", name_of(dtype), ", want f32 or f64");
}

/// The same with storage types that kernels compute on in f32: S = float, double or bf16.
template <class F>
decltype(auto) visit_stored(DType dtype, const char* op, F&& f) {
    if (dtype == DType::bf16) return f.template operator()<bf16>();
    return visit_real(dtype, op, f);
}

}  // namespace bf

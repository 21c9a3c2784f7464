#pragma once
#include <cstdint>
#include <type_traits>

#include "bf/base/macros.hpp"

// Elements as kernels see them: the type they are computed in, casts, and 16-byte accesses.

namespace bf::math {

/// The type in which values of a storage type are computed: the type itself, f32 for 16-bit storage.
template <class S>
using Compute = std::conditional_t<std::is_arithmetic_v<S>, S, float>;

/// A value of any element type in another; 16-bit floats go through f32.
template <class To, class From>
BF_HD To element_cast(From value) {
    if constexpr (std::is_same_v<To, From>)
        return value;
    else if constexpr (!std::is_arithmetic_v<From>)
        return element_cast<To>(static_cast<float>(value));
    else if constexpr (!std::is_arithmetic_v<To>)
        return To(static_cast<float>(value));
    else
        return static_cast<To>(value);
}

/// V neighbours that are read or written together.
template <class S, int V>
struct alignas(sizeof(S) * V < 16 ? sizeof(S) * V : 16) Pack {
    S v[V];
};

/// Elements of S in 16 bytes.
template <class S>
inline constexpr int pack_size = static_cast<int>(16 / sizeof(S));

/// out[k] = p[k], k < V, in the computing type; `aligned` allows one access for all of them.
template <int V, class S>
BF_HD void load(const S* p, bool aligned, Compute<S>* out) {
    if (aligned) {
        const Pack<S, V> pack = *reinterpret_cast<const Pack<S, V>*>(p);
        for (int k = 0; k < V; ++k) out[k] = element_cast<Compute<S>>(pack.v[k]);
    } else {
        for (int k = 0; k < V; ++k) out[k] = element_cast<Compute<S>>(p[k]);
    }
}
/// p[k] = value[k], k < V.
template <int V, class S>
BF_HD void store(S* p, bool aligned, const Compute<S>* value) {
    if (aligned) {
        Pack<S, V> pack;
        for (int k = 0; k < V; ++k) pack.v[k] = element_cast<S>(value[k]);
        *reinterpret_cast<Pack<S, V>*>(p) = pack;
    } else {
        for (int k = 0; k < V; ++k) p[k] = element_cast<S>(value[k]);
    }
}

BF_HD std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
BF_HD std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
BF_HD std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Quotient and remainder of numbers that are not negative; 32-bit where they fit, which GPUs do several times faster.
struct Division {
    std::int64_t quotient, rest;
};
BF_HD Division divide(std::int64_t a, std::int64_t b) {
    if (((a | b) >> 32) == 0) {
        const auto x = static_cast<std::uint32_t>(a), y = static_cast<std::uint32_t>(b);
        return {static_cast<std::int64_t>(x / y), static_cast<std::int64_t>(x % y)};
    }
    return {a / b, a % b};
}

}  // namespace bf::math

#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "bf/core/dtype.hpp"
#include "bf/math/element.hpp"

// CPU: vectors as wide as the target's registers, and the product of small blocks that convolutions are made of.

namespace bf::cpu {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32, vector_registers = 16;
#else
inline constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class T>
inline constexpr std::int64_t lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
/// lanes<T> values that are computed on together.
template <class T>
using Vector = typename VectorOf<T>::type;

/// The type that elements of a storage type are computed in.
template <class S>
using Compute = math::Compute<S>;

/// As many elements as a vector has lanes, computed on as Compute<S>.
template <class S>
[[gnu::always_inline]] inline Vector<Compute<S>> load(const S* p) {
    if constexpr (std::is_same_v<S, bf16>) {
        typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
        typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
        Halves halves;
        std::memcpy(&halves, p, sizeof halves);
        return reinterpret_cast<Vector<float>>(__builtin_convertvector(halves, Words) << 16);
    } else {
        Vector<S> v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
}
template <class S>
[[gnu::always_inline]] inline void store(S* p, Vector<Compute<S>> v) {
    if constexpr (std::is_same_v<S, bf16>) {  // to nearest even, as bf16(float)
        typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
        typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
        const auto words = reinterpret_cast<Words>(v);
        const Words rounded = (words + 0x7FFFu + ((words >> 16) & 1u)) >> 16, nan = (words >> 16) | 0x40u;
        const Halves halves = __builtin_convertvector((words & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded, Halves);
        std::memcpy(static_cast<void*>(p), &halves, sizeof halves);
    } else {
        std::memcpy(static_cast<void*>(p), &v, sizeof v);
    }
}
/// Tensors from this size on do not stay in a cache until they are read again: written past it, the lines that they
/// fill need not be read first.
inline constexpr std::size_t past_cache_bytes = std::size_t{16} << 20;
/// store() past the cache; p is aligned to the vector, and finish_stream() stands before what lets others read.
template <class T>
[[gnu::always_inline]] inline void stream(T* p, Vector<T> v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
    store(p, v);
#endif
}
inline void finish_stream() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/// The first `count` lanes; the others are 0.
template <class S>
[[gnu::always_inline]] inline Vector<Compute<S>> load(const S* p, std::int64_t count) {
    if (count >= lanes<Compute<S>>) return load(p);
    S values[lanes<Compute<S>>] = {};
    std::copy_n(p, count, values);
    return load(values);
}
template <class S>
[[gnu::always_inline]] inline void store(S* p, Vector<Compute<S>> v, std::int64_t count) {
    if (count >= lanes<Compute<S>>) return store(p, v);
    S values[lanes<Compute<S>>];
    store(values, v);
    std::copy_n(values, count, p);
}
/// to[i] = from[i] in another storage.
template <class To, class From>
void copy_values(const From* from, std::int64_t count, To* to) {
    if constexpr (std::is_same_v<To, From>) {
        if (count >= 16) return std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(To)), void();
        for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
    } else {
        for (std::int64_t i = 0; i < count; i += lanes<Compute<From>>)
            store(to + i, load(from + i, count - i), count - i);
    }
}

/// Two vectors as neighbours in bf16, to nearest even; numbers too small for a normal float may become 0.
[[gnu::always_inline]] inline void store_rounded(bf16* p, Vector<float> low, Vector<float> high, bool past_cache) {
#if defined(__AVX512F__) && defined(__AVX512BF16__)
    const auto both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    if (past_cache)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), both);
    else
        std::memcpy(static_cast<void*>(p), &both, sizeof both);
#else
    static_cast<void>(past_cache);
    store(p, low);
    store(p + lanes<float>, high);
#endif
}
/// A row in its storage; past the cache only where it starts and ends with a line of it.
template <bool past_cache, class S>
void write_row(const Compute<S>* from, std::int64_t count, S* to) {
    using T = Compute<S>;
    constexpr std::int64_t step = std::is_same_v<S, T> ? lanes<T> : 2 * lanes<T>;
    std::int64_t i = 0;
    for (; i + step <= count; i += step)
        if constexpr (!std::is_same_v<S, T>)
            store_rounded(to + i, load(from + i), load(from + i + lanes<T>), past_cache);
        else if constexpr (past_cache)
            stream(to + i, load(from + i));
        else
            store(to + i, load(from + i));
    for (; i < count; i += lanes<T>) store(to + i, load(from + i, count - i), count - i);
}

template <class T>
[[gnu::always_inline]] inline Vector<T> broadcast(T value) {
    return value - Vector<T>{};  // unlike value + 0 no work: that would turn -0 into 0
}
/// Two neighbours of a row in bf16, as products of pairs take them.
using Bf16Pair = std::int32_t;
inline Bf16Pair pair_of(bf16 first, bf16 second) {
    return static_cast<Bf16Pair>(std::uint32_t{first.bits} | std::uint32_t{second.bits} << 16);
}
/// Whether the target multiplies pairs in bf16, twice as many at once as numbers in f32.
#if defined(__AVX512F__) && defined(__AVX512BF16__)
inline constexpr bool multiplies_pairs = true;
#else
inline constexpr bool multiplies_pairs = false;
#endif
/// What products of elements E are summed in.
template <class E>
using SumOf = std::conditional_t<std::is_same_v<E, Bf16Pair>, float, E>;

/// a b + c, rounded once where the target can; of pairs the sum of both products + c.
template <class E>
[[gnu::always_inline]] inline Vector<SumOf<E>> multiply_add(Vector<E> a, Vector<E> b, Vector<SumOf<E>> c) {
    if constexpr (std::is_same_v<E, Bf16Pair>) {
#if defined(__AVX512F__) && defined(__AVX512BF16__)
        return reinterpret_cast<Vector<float>>(_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b));
#else
        static_assert(sizeof(E) == 0, "this target has no products of pairs");
#endif
    } else {
#if defined(__AVX512F__)
        if constexpr (std::is_same_v<E, float>)
            return reinterpret_cast<Vector<E>>(_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c));
        else
            return reinterpret_cast<Vector<E>>(_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c));
#elif defined(__AVX__) && defined(__FMA__)
        if constexpr (std::is_same_v<E, float>)
            return reinterpret_cast<Vector<E>>(_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c));
        else
            return reinterpret_cast<Vector<E>>(_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c));
#else
        return a * b + c;
#endif
    }
}

/// f(integral_constant 0), ..., f(n - 1), written out: an inner loop would keep the loop around it from vectorising,
/// and arrays of vectors from lying in registers.
template <std::size_t n, class F>
[[gnu::always_inline]] inline void repeated(F&& f) {
    [&]<std::size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
        (f(std::integral_constant<std::size_t, i>()), ...);
    }
    (std::make_index_sequence<n>());
}

/// to[j * to_row + i] = from[i * from_row + j] for i, j < lanes<T>; rows j of `to` from `values` on are undefined.
template <class T>
void transpose_lanes(const T* from, std::int64_t from_row, T* to, std::int64_t to_row, std::int64_t values = lanes<T>) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        __m512i a[16], b[16];
        const auto read = static_cast<__mmask16>((1u << values) - 1);
        repeated<16>(
            [&](auto i) { a[i] = _mm512_maskz_loadu_epi32(read, from + static_cast<std::int64_t>(i) * from_row); });
        repeated<8>([&](auto i) {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        });
        repeated<4>([&](auto i) {
            a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
        });
        // a[4 i + j]: of rows 4 i .. 4 i + 3 the columns j, j + 4, j + 8, j + 12, 128 bits each
        repeated<4>([&](auto j) {
            const __m512i even = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88),
                          odd = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xDD),
                          even_below = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88),
                          odd_below = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xDD);
            T* const out = to + static_cast<std::int64_t>(j) * to_row;
            _mm512_storeu_si512(out, _mm512_shuffle_i32x4(even, even_below, 0x88));
            _mm512_storeu_si512(out + 4 * to_row, _mm512_shuffle_i32x4(odd, odd_below, 0x88));
            _mm512_storeu_si512(out + 8 * to_row, _mm512_shuffle_i32x4(even, even_below, 0xDD));
            _mm512_storeu_si512(out + 12 * to_row, _mm512_shuffle_i32x4(odd, odd_below, 0xDD));
        });
        return;
    }
#endif
    for (std::int64_t i = 0; i < lanes<T>; ++i)
        for (std::int64_t j = 0; j < values; ++j) to[j * to_row + i] = from[i * from_row + j];
}

/// to[v * lanes<T> + l] = from[l * row + v] for v < values: lanes from `count` on are 0. `to` has room for whole blocks
/// of lanes<T> values.
template <class T>
void turn_rows(const T* from, std::int64_t row, std::int64_t count, std::int64_t values, T* to) {
    if (row == 1 && values == 1) return store(to, load(from, count));
    if (count == lanes<T>) {
        for (std::int64_t v = 0; v < values; v += lanes<T>)
            transpose_lanes(from + v, row, to + v * lanes<T>, lanes<T>, std::min(lanes<T>, values - v));
        return;
    }
    for (std::int64_t v = 0; v < values; ++v)
        for (std::int64_t l = 0; l < lanes<T>; ++l) to[v * lanes<T> + l] = l < count ? from[l * row + v] : T(0);
}

/// Rows and columns of the block that fits the registers: two vectors wide, one register for the value that is
/// multiplied and two for the vectors it meets.
inline constexpr std::int64_t block_rows = vector_registers == 32 ? 14 : 6;
template <class T>
inline constexpr std::int64_t block_cols = 2 * lanes<T>;

/// Where the operands of a product of blocks lie: a[i * a_row + k * a_step] and, block_cols contiguous values, b[k *
/// b_step].
struct BlockStrides {
    std::ptrdiff_t a_row, a_step, b_step;
};

/// c[i * c_row .. + block_cols] (+)= sum over `terms` and k < depth of a[i, k] b[k, ..] for `rows` rows; at(t) gives
/// the pair of pointers (a, b) of a term. E: float, double, or Bf16Pair, of which c is the sum in f32.
template <int rows, bool add, class E, class At>
[[gnu::always_inline]] inline void multiply_rows(std::int64_t terms, At&& at, std::int64_t depth, const BlockStrides& s,
                                                 SumOf<E>* c, std::ptrdiff_t c_row) {
    using T = SumOf<E>;
    constexpr std::size_t n = static_cast<std::size_t>(rows), groups = (n + 3) / 4;
    Vector<T> sum[n][2];
    repeated<n>([&](auto i) { sum[i][0] = sum[i][1] = Vector<T>{}; });
    const std::ptrdiff_t row = s.a_row, row3 = 3 * s.a_row, a_step = s.a_step, b_step = s.b_step;
    for (std::int64_t t = 0; t < terms; ++t) {
        const std::pair<const E*, const E*> operands = at(t);
        const E *a = operands.first, *b = operands.second;
        // four rows a pointer: x86 addresses three more from each by strides in registers
        const E* group[groups];
        repeated<groups>([&](auto g) { group[g] = a + static_cast<std::ptrdiff_t>(4 * g) * row; });
        for (std::int64_t k = 0; k < depth; ++k) {
            const Vector<E> left = load(b), right = load(b + lanes<E>);
            repeated<n>([&](auto i) {
                constexpr std::size_t within = decltype(i)::value % 4;
                const E* p = group[decltype(i)::value / 4] + (within == 1   ? row
                                                              : within == 2 ? 2 * row
                                                              : within      ? row3
                                                                            : 0);
                E value;
                std::memcpy(&value, p, sizeof value);  // pairs lie in memory of bf16
                const Vector<E> v = broadcast(value);
                sum[i][0] = multiply_add<E>(v, left, sum[i][0]);
                sum[i][1] = multiply_add<E>(v, right, sum[i][1]);
            });
            repeated<groups>([&](auto g) { group[g] += a_step; });
            b += b_step;
        }
    }
    // what is there is added last: long sums made of several calls round less than one chain of additions
    repeated<n>([&](auto i) {
        T* to = c + static_cast<std::ptrdiff_t>(i) * c_row;
        store(to, add ? load(to) + sum[i][0] : sum[i][0]);
        store(to + lanes<T>, add ? load(to + lanes<T>) + sum[i][1] : sum[i][1]);
    });
}

/// multiply_rows() for any number of rows. Never inlined: amid other code the compiler would not keep all sums in
/// registers.
template <bool add, class E, class At>
[[gnu::noinline]] void multiply_block(std::int64_t rows, std::int64_t terms, At&& at, std::int64_t depth,
                                      const BlockStrides& s, SumOf<E>* c, std::ptrdiff_t c_row) {
    std::int64_t from = 0;
    const auto some = [&](auto n) {
        constexpr int count = decltype(n)::value;
        for (; rows - from >= count; from += count)
            multiply_rows<count, add, E>(
                terms,
                [&](std::int64_t t) {
                    const auto [a, b] = at(t);
                    return std::pair<const E*, const E*>(a + from * s.a_row, b);
                },
                depth, s, c + from * c_row, c_row);
    };
    some(std::integral_constant<int, static_cast<int>(block_rows)>());
    if constexpr (block_rows > 8) some(std::integral_constant<int, 8>());
    some(std::integral_constant<int, 4>());
    some(std::integral_constant<int, 2>());
    some(std::integral_constant<int, 1>());
}

/// Rounded up to whole blocks of columns.
template <class T>
constexpr std::int64_t padded_cols(std::int64_t n) {
    return (n + block_cols<T> - 1) / block_cols<T> * block_cols<T>;
}

}  // namespace bf::cpu

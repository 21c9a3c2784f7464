#pragma once
#if defined(__x86_64__) && defined(__linux__) && defined(__AVX512BF16__) && \
    (defined(__AMX_BF16__) || defined(__AMXBF16__))  // clang 14 writes the second name
#define BF_HAVE_TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "bf/kernels/cpu_simd.hpp"

// CPU: products in bf16 by the processor's tile registers (AMX), sixteen times as many multiplications an instruction
// as vectors of pairs.

namespace bf::cpu {

/// Whether products of tiles can be used: the build has them, and the system lets this process use their registers.
inline bool has_tiles() {
#ifdef BF_HAVE_TILES
    // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA: asked for once, granted to all threads; fails where there are no tiles
    static const bool granted = ::syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return granted;
#else
    return false;
#endif
}

#ifdef BF_HAVE_TILES

/// Rows of a tile, and values in bf16 that a step of a product takes.
inline constexpr std::int64_t tile_rows = 16, tile_depth = 32;

/// The tile registers of this thread while it lives: four sums (0 to 3), two left (4, 5) and two right sides (6, 7).
class Tiles {
  public:
    Tiles() = default;
    ~Tiles() {
        if (rows_) _tile_release();  // a process without tiles may hold an object that it does not use
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    /// c[rows, 32] (+)= the sum over `terms` of a[rows, steps * 32] b[steps * 32, 32], rows <= 32; at(t) gives the
    /// pointers (a, b) of a term. Rows of a lie a_row bytes apart, those of c c_row bytes; b is, step by step, 16 rows
    /// of 32 pairs.
    template <bool add, class At>
    void multiply(std::int64_t rows, std::int64_t terms, At&& at, std::int64_t steps, std::int64_t a_row, float* c,
                  std::int64_t c_row) {
        if (rows != rows_) configure(rows);
        if (rows > tile_rows)
            multiply_rows<true, add>(terms, at, steps, a_row, c, c_row);
        else
            multiply_rows<false, add>(terms, at, steps, a_row, c, c_row);
    }

  private:
    void configure(std::int64_t rows) {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t row_bytes[16] = {};
            std::uint8_t rows[16] = {};
        } shape;
        const auto upper = static_cast<std::uint8_t>(std::min(rows, tile_rows)),
                   lower = static_cast<std::uint8_t>(std::max<std::int64_t>(rows - tile_rows, 1));
        const std::uint8_t all[8] = {upper, upper, lower, lower, upper, lower, tile_rows, tile_rows};
        for (int i = 0; i < 8; ++i) shape.row_bytes[i] = 64, shape.rows[i] = all[i];
        _tile_loadconfig(&shape);
        rows_ = rows;
    }

    // The compiler is not told what memory the loads of tiles read: barriers keep earlier writes before them.
    template <bool two, bool add, class At>
    [[gnu::noinline]] static void multiply_rows(std::int64_t terms, At& at, std::int64_t steps, std::int64_t a_row,
                                                float* c, std::int64_t c_row) {
        asm volatile("" ::: "memory");
        float* lower = c + tile_rows * c_row / 4;
        if constexpr (add) {
            _tile_loadd(0, c, c_row);
            _tile_loadd(1, c + 16, c_row);
            if constexpr (two) {
                _tile_loadd(2, lower, c_row);
                _tile_loadd(3, lower + 16, c_row);
            }
        } else {
            _tile_zero(0);
            _tile_zero(1);
            if constexpr (two) {
                _tile_zero(2);
                _tile_zero(3);
            }
        }
        for (std::int64_t t = 0; t < terms; ++t) {
            const auto [first, right] = at(t);
            const char *a = reinterpret_cast<const char*>(first), *b = reinterpret_cast<const char*>(right);
            for (std::int64_t k = 0; k < steps; ++k, a += 64, b += 2048) {
                _tile_loadd(6, b, 128);
                _tile_loadd(4, a, a_row);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, b + 64, 128);
                _tile_dpbf16ps(1, 4, 7);
                if constexpr (two) {
                    _tile_loadd(5, a + tile_rows * a_row, a_row);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                }
            }
        }
        _tile_stored(0, c, c_row);
        _tile_stored(1, c + 16, c_row);
        if constexpr (two) {
            _tile_stored(2, lower, c_row);
            _tile_stored(3, lower + 16, c_row);
        }
        asm volatile("" ::: "memory");
    }

    std::int64_t rows_ = 0;
};

#endif

#if defined(__AVX512F__) && defined(__AVX512BF16__)

/// Rows 2k and 2k + 1 of `from` [2, 32] as a row of 32 pairs.
[[gnu::always_inline]] inline void interleave(const bf16* first, const bf16* second, Bf16Pair* to) {
    const __m512i a = _mm512_loadu_si512(first), b = _mm512_loadu_si512(second);
    // 16-bit values are interleaved within 128 bits; the quarters are then put in order
    const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
    const __m512i from_low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  from_high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, from_low, high));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(low, from_high, high));
}

/// to[j * to_row + i] = from[i * from_row + j] for i, j < 32.
inline void turn_block(const bf16* from, std::int64_t from_row, bf16* to, std::int64_t to_row) {
    alignas(64) Bf16Pair pairs[16][32];
    for (std::int64_t k = 0; k < 16; ++k) interleave(from + 2 * k * from_row, from + (2 * k + 1) * from_row, pairs[k]);
    for (std::int64_t half = 0; half < 32; half += 16)
        transpose_lanes(pairs[0] + half, 32, reinterpret_cast<Bf16Pair*>(to + half * to_row), to_row / 2);
}

/// Products of blocks in bf16 with sums in f32: by tiles where has_tiles(), else by vectors of pairs.
class BlockProducts {
  public:
    /// c[rows, 32] (+)= the sum over `steps` of a[rows, 32] b[32, 32]. The left side of a step lies a_step behind the
    /// one before it: lines of 32 values, a row a line; after 32 rows the next lie a_block further. The right side is
    /// step by step 16 rows of 32 pairs.
    template <bool add>
    void multiply(std::int64_t rows, std::int64_t steps, const bf16* a, std::int64_t a_block, std::int64_t a_step,
                  const Bf16Pair* b, float* c, std::int64_t c_row) {
        // steps whose right side stays in the first-level cache while all rows meet it
        const std::int64_t pieces = std::max<std::int64_t>(1, (steps + 7) / 8), some = (steps + pieces - 1) / pieces;
        multiply_some<add>(rows, std::min(some, steps), a, a_block, a_step, b, c, c_row);
        for (std::int64_t t = some; t < steps; t += some)
            multiply_some<true>(rows, std::min(some, steps - t), a + t * a_step, a_block, a_step, b + t * 512, c,
                                c_row);
    }

  private:
    template <bool add>
    void multiply_some(std::int64_t rows, std::int64_t steps, const bf16* a, std::int64_t a_block, std::int64_t a_step,
                       const Bf16Pair* b, float* c, std::int64_t c_row) {
        for (; rows > 0; rows -= 32, a += a_block, c += 32 * c_row) {
            const std::int64_t count = std::min<std::int64_t>(rows, 32);
#ifdef BF_HAVE_TILES
            if (has_tiles()) {
                const auto at = [&](std::int64_t t) { return std::pair(a + t * a_step, b + t * 512); };
                tiles_.multiply<add>(count, steps, at, 1, 64, c, 4 * c_row);
                continue;
            }
#endif
            const auto at = [&](std::int64_t t) {
                return std::pair(reinterpret_cast<const Bf16Pair*>(a + t * a_step), b + t * 512);
            };
            multiply_block<add, Bf16Pair>(count, steps, at, 16, {16, 1, 32}, c, c_row);
        }
    }

#ifdef BF_HAVE_TILES
    Tiles tiles_;
#endif
};

#endif

}  // namespace bf::cpu

#pragma once
#include <cmath>
#include <cstdint>

#include "bf/base/macros.hpp"

// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A draw is a pure function of (seed, stream, a, b), so it depends neither on the order in which
// threads run nor on the device.

namespace bf {

/// Separate purposes draw from separate streams, so that adding one draw never shifts another.
enum class Stream : std::uint32_t {
    init = 1,
    shuffle = 2,
    augment = 3,
    dropout = 4,
    identity = 5,
    nuisance = 6,
    test = 7,
    resample = 8,
    margin = 9,
    user = 64,  ///< first value free for user code
};

/// Four 32-bit words drawn together.
struct Random4 {
    std::uint32_t v[4];
};

BF_HD std::uint32_t mulhi32(std::uint32_t a, std::uint32_t b) {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
}

/// Philox4x32-10: 128-bit counter, 64-bit key.
BF_HD Random4 philox(std::uint64_t key, std::uint64_t counter_hi, std::uint64_t counter_lo) {
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    Random4 c{{static_cast<std::uint32_t>(counter_lo), static_cast<std::uint32_t>(counter_lo >> 32),
               static_cast<std::uint32_t>(counter_hi), static_cast<std::uint32_t>(counter_hi >> 32)}};
    for (int round = 0; round < 10; ++round) {
        const std::uint32_t hi0 = mulhi32(0xD2511F53u, c.v[0]), lo0 = 0xD2511F53u * c.v[0];
        const std::uint32_t hi1 = mulhi32(0xCD9E8D57u, c.v[2]), lo1 = 0xCD9E8D57u * c.v[2];
        c = Random4{{hi1 ^ c.v[1] ^ k0, lo1, hi0 ^ c.v[3] ^ k1, lo0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/// The Philox key of (seed, stream): splitmix64 of the seed, offset by the stream.
BF_HD std::uint64_t random_key(std::uint64_t seed, Stream stream) {
    std::uint64_t z = seed + 0x9E3779B97F4A7C15ull * (static_cast<std::uint64_t>(stream) + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

/// 32 random bits to a uniform in [0, 1); 24 bits, exact in f32.
BF_HD float to_uniform(std::uint32_t bits) { return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f); }

/// Uniform in [0, 1) number `index` of (seed, stream, a).
BF_HD float random_uniform(std::uint64_t seed, Stream stream, std::uint64_t a, std::uint64_t index) {
    return to_uniform(philox(random_key(seed, stream), a, index >> 2).v[index & 3]);
}

/// A sequence of draws named by (seed, stream, a, b): a loader uses (seed, augment, epoch, sample).
class Rng {
  public:
    explicit Rng(std::uint64_t seed, Stream stream = Stream::test, std::uint64_t a = 0, std::uint64_t b = 0)
        : key_(random_key(seed, stream) ^ (b * 0xD1342543DE82EF95ull)), a_(a) {}

    std::uint32_t bits() {
        if (used_ == 4) {
            block_ = philox(key_, a_, counter_++);
            used_ = 0;
        }
        return block_.v[used_++];
    }
    /// Uniform in [0, 1).
    float uniform() { return to_uniform(bits()); }
    /// Uniform in [low, high).
    float uniform(float low, float high) { return low + (high - low) * uniform(); }
    /// Uniform integer in [0, n), n < 2^32; the bias is below n / 2^32.
    std::uint64_t below(std::uint64_t n) { return (static_cast<std::uint64_t>(bits()) * n) >> 32; }
    /// Standard normal (Box-Muller).
    float normal() {
        const float u = 1.0f - uniform(), v = uniform();
        return std::sqrt(-2.0f * std::log(u)) * std::cos(6.28318530717958647692f * v);
    }
    /// True with probability p.
    bool chance(float p) { return uniform() < p; }

  private:
    std::uint64_t key_, a_, counter_ = 0;
    Random4 block_{};
    int used_ = 4;
};

}  // namespace bf

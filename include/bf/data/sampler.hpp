#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/base/random.hpp"
#include "bf/data/dataset.hpp"

namespace bf {

/// A random permutation of 0..n-1 that is computed place by place: no list of n numbers, whatever n is. A Feistel
/// network over the two digits of a number in base (A, B) with A * B >= n; a result that is not below n goes through it
/// again (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
class Permutation {
  public:
    /// The permutation named by (seed, a, b), of n < 2^62 numbers.
    Permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0) : n_(n) {
        BF_CHECK(n > 0 && n < std::uint64_t{1} << 62, "Permutation", "size; got ", n, ", want 1..2^62-1");
        high_ = static_cast<std::uint64_t>(std::ceil(std::sqrt(static_cast<double>(n))));
        low_ = (n + high_ - 1) / high_;
        Rng rng(seed, Stream::shuffle, a, b);
        for (std::uint64_t& key : keys_) {
            key = rng.bits();
            key = key << 32 | rng.bits();
        }
    }
    std::uint64_t size() const { return n_; }
    /// The number at place i < n.
    std::uint64_t operator()(std::uint64_t i) const {
        do {
            std::uint64_t high = i / low_, low = i % low_;
            for (std::size_t round = 0; round < keys_.size(); round += 2) {
                high += drawn(low ^ keys_[round], high_);
                high -= high >= high_ ? high_ : 0;
                low += drawn(high ^ keys_[round + 1], low_);
                low -= low >= low_ ? low_ : 0;
            }
            i = high * low_ + low;
        } while (i >= n_);
        return i;
    }

  private:
    /// A number below `below` < 2^32 that is a random function of x (splitmix64's finaliser).
    static std::uint64_t drawn(std::uint64_t x, std::uint64_t below) {
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
        return ((x ^ (x >> 31)) >> 32) * below >> 32;
    }
    std::uint64_t n_, high_, low_;
    std::array<std::uint64_t, 24>
        keys_{};  ///< one a round; with 16, the orders of five numbers are not yet equally likely
};

/// Which images show an identity: 8 bytes an image and as much an identity.
class IdentityIndex {
  public:
    explicit IdentityIndex(const Dataset& dataset)
        : first_(static_cast<std::size_t>(dataset.identities()) + 1),
          images_(static_cast<std::size_t>(dataset.size())) {
        for (std::int64_t i = 0; i < dataset.size(); ++i) ++first_[static_cast<std::size_t>(dataset.label(i)) + 1];
        for (std::size_t k = 1; k < first_.size(); ++k) {
            if (first_[k] > 0) there_.push_back(static_cast<std::int64_t>(k) - 1);
            first_[k] += first_[k - 1];
        }
        std::vector<std::int64_t> next(first_.begin(), first_.end() - 1);
        for (std::int64_t i = 0; i < dataset.size(); ++i)
            images_[static_cast<std::size_t>(next[static_cast<std::size_t>(dataset.label(i))]++)] = i;
    }
    /// Identities that have an image, ascending.
    const std::vector<std::int64_t>& identities() const { return there_; }
    std::int64_t count(std::int64_t identity) const {
        const auto k = static_cast<std::size_t>(identity);
        return first_[k + 1] - first_[k];
    }
    /// Image number j < count of an identity.
    std::int64_t image(std::int64_t identity, std::int64_t j) const {
        return images_[static_cast<std::size_t>(first_[static_cast<std::size_t>(identity)] + j)];
    }

  private:
    std::vector<std::int64_t> first_, images_, there_;
};

/// An image that a sampler chose.
struct Sample {
    std::int64_t index;
    std::uint64_t
        repeat;  ///< how often the epoch had this identity's turn before: 0 where an image comes once an epoch
};

/// Which images a batch has: a function of (seed, epoch, batch, place), so that a run continues anywhere.
class Sampler {
  public:
    /// images_per_identity K: 0: each image at most once an epoch, in random order (or in order: shuffle = false).
    /// Above 0: balanced batches of batch_size / K different identities, K images of each.
    Sampler(const Dataset& dataset, std::int64_t batch_size, std::uint64_t seed, bool shuffle,
            std::int64_t images_per_identity)
        : size_(static_cast<std::uint64_t>(dataset.size())),
          batch_(static_cast<std::uint64_t>(batch_size)),
          seed_(seed),
          shuffle_(shuffle),
          each_(static_cast<std::uint64_t>(images_per_identity)) {
        if (each_ == 0) return;
        BF_CHECK(batch_size % images_per_identity == 0, "loader", "batch_size ", batch_size, " of ",
                 images_per_identity, " images an identity; want a multiple; hint: batch_size ",
                 (batch_size / images_per_identity + 1) * images_per_identity);
        index_.emplace_back(dataset);
        const std::size_t there = index_[0].identities().size();
        BF_CHECK(there >= batch_ / each_, "loader", "balanced batches of ", batch_ / each_, " identities; got ", there,
                 " in the dataset; hint: a smaller batch_size or more images_per_identity");
    }
    /// As many batches as the images fill, whatever the sampling: an epoch is as long.
    std::uint64_t batches_per_epoch() const { return size_ / batch_; }

    /// Gives sample(place, attempt) of one batch. attempt: 0; above, what stands in for images that cannot be read.
    class OfBatch {
      public:
        OfBatch(const Sampler& sampler, std::uint64_t epoch, std::uint64_t number)
            : s_(sampler),
              epoch_(epoch),
              number_(number),
              order_(s_.each_ ? s_.index_[0].identities().size() : s_.size_, s_.seed_, epoch,
                     s_.each_ ? s_.round(number) + 1 : 0) {}
        Sample operator()(std::uint64_t place, std::uint64_t attempt) const {
            if (s_.each_) return balanced(place, attempt);
            const std::uint64_t at = (number_ * s_.batch_ + place + attempt) % s_.size_;
            return {static_cast<std::int64_t>(s_.shuffle_ ? order_(at) : at), 0};
        }

      private:
        /// Rounds over the identities, in an order of its own each, leave out what fills no batch. An identity's turns
        /// take its images K by K in an order of their own; when fewer than K are left, a new order begins.
        Sample balanced(std::uint64_t place, std::uint64_t attempt) const {
            const IdentityIndex& index = s_.index_[0];
            const std::uint64_t round = s_.round(number_), turn = epoch_ * s_.rounds() + round,
                                people = index.identities().size();
            std::uint64_t at = number_ % s_.batches_per_round() * (s_.batch_ / s_.each_) + place / s_.each_;
            for (;; ++at) {
                const std::int64_t who = index.identities()[order_(at % people)];
                const auto count = static_cast<std::uint64_t>(index.count(who));
                if (attempt >= count) {  // none of its images can be read
                    attempt -= count;
                    continue;
                }
                const std::uint64_t turns = std::max<std::uint64_t>(1, count / s_.each_);
                const Permutation images(count, s_.seed_, turn / turns, ~static_cast<std::uint64_t>(who));
                const std::uint64_t j = turn % turns * s_.each_ + place % s_.each_ + attempt;
                return {index.image(who, static_cast<std::int64_t>(images(j % count))),
                        round * s_.each_ + place % s_.each_};
            }
        }
        const Sampler& s_;
        std::uint64_t epoch_, number_;
        Permutation order_;
    };

  private:
    std::uint64_t batches_per_round() const { return index_[0].identities().size() / (batch_ / each_); }
    std::uint64_t round(std::uint64_t number) const { return number / batches_per_round(); }
    std::uint64_t rounds() const { return round(batches_per_epoch() - 1) + 1; }

    std::uint64_t size_, batch_, seed_;
    bool shuffle_;
    std::uint64_t each_;
    std::vector<IdentityIndex> index_;  ///< of balanced batches
};

}  // namespace bf

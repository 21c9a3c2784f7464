#pragma once
#include <atomic>
#include <functional>
#include <memory>

#include "bf/eval/search.hpp"

namespace bf {

/// A threshold of the cosine, and what it does to the pairs that it was chosen from: accepted if cosine >= threshold.
struct FarThreshold {
    double threshold = 0;
    std::int64_t impostors = 0, impostors_accepted = 0;  ///< pairs of two identities
    std::int64_t genuine = 0, genuine_accepted = 0;      ///< pairs of one identity
    double far() const { return static_cast<double>(impostors_accepted) / static_cast<double>(impostors); }
};

/// The lowest threshold (in steps of 2^-19) at which at most a share `far` of all pairs of different identities among
/// embeddings [n, D] is accepted. All n (n - 1) / 2 pairs are scored in blocks; only their histogram is kept, 16 MiB.
/// A FAR that fewer than 1 / far such pairs cannot show is a usage Error that says how many pairs it wants.
/// `progress(rows)` is called with the rows that are done.
inline FarThreshold far_threshold(const Tensor& embeddings, std::span<const std::int64_t> identity, double far,
                                  const std::function<void(std::int64_t)>& progress = {}) {
    BF_CHECK(far > 0 && far <= 1, "far", "got ", far, ", want above 0, at most 1");
    BF_CHECK(embeddings.defined() && embeddings.rank() == 2 &&
                 static_cast<std::int64_t>(identity.size()) == embeddings.dim(0),
             "far_threshold", "embeddings; got ", embeddings.str(), ", want a row for each of ", identity.size(),
             " identities");
    const auto n = static_cast<std::int64_t>(identity.size());
    FarThreshold out;
    std::vector<std::int64_t> sorted(identity.begin(), identity.end());
    std::sort(sorted.begin(), sorted.end());
    for (std::int64_t begin = 0, end; begin < n; begin = end) {
        for (end = begin; end < n && sorted[static_cast<std::size_t>(end)] == sorted[static_cast<std::size_t>(begin)];)
            ++end;
        out.genuine += (end - begin) * (end - begin - 1) / 2;
    }
    out.impostors = n * (n - 1) / 2 - out.genuine;
    const double pairs = static_cast<double>(out.impostors), wanted = std::ceil(1 / far - 1e-9);
    BF_CHECK(pairs >= wanted, "far", "got ", far, ", which wants at least ", static_cast<std::int64_t>(wanted),
             " pairs of different people; got ", out.impostors, " among ", n,
             " images; hint: a larger FAR, or more people (about ",
             static_cast<std::int64_t>(std::ceil(std::sqrt(2 * wanted)) + 1), " with one image each)");
    // bin b holds scores in [b / 2^19 - 1, (b + 1) / 2^19 - 1); what rounding lifts above 1 falls into the last
    constexpr std::int64_t half = 1 << 19, bins = 2 * half;
    const auto make = [] { return std::make_unique<std::atomic<std::int64_t>[]>(static_cast<std::size_t>(bins)); };
    const auto impostor = make(), genuine = make();
    constexpr std::int64_t block = 1024;
    for (std::int64_t begin = 0; begin < n; begin += block) {  // each pair once: rows of a block with those after them
        const std::int64_t end = std::min(n, begin + block);
        for_each_score(embeddings.rows(begin, end), embeddings.rows(begin, n), {},
                       [&](std::int64_t, std::int64_t q, std::int64_t first, std::span<const float> scores) {
                           const std::int64_t mine = identity[static_cast<std::size_t>(begin + q)];
                           for (std::int64_t i = std::max<std::int64_t>(0, q + 1 - first);
                                i < static_cast<std::int64_t>(scores.size()); ++i) {
                               const double score = static_cast<double>(scores[static_cast<std::size_t>(i)]);
                               const auto bin = static_cast<std::size_t>(std::clamp<std::int64_t>(
                                   static_cast<std::int64_t>((score + 1) * half), 0, bins - 1));
                               const bool same = identity[static_cast<std::size_t>(begin + first + i)] == mine;
                               (same ? genuine : impostor)[bin].fetch_add(1, std::memory_order_relaxed);
                           }
                       });
        if (progress) progress(end);
    }
    std::int64_t bin = bins;
    while (bin > 0) {
        const std::int64_t more = out.impostors_accepted + impostor[static_cast<std::size_t>(bin - 1)];
        if (static_cast<double>(more) > far * pairs * (1 + 1e-12)) break;
        out.impostors_accepted = more;
        out.genuine_accepted += genuine[static_cast<std::size_t>(--bin)];
    }
    out.threshold = static_cast<double>(bin) / half - 1;
    if (bin == bins) out.threshold = 1 + 1e-5;  // too many impostors score 1: nothing is accepted
    return out;
}

}  // namespace bf

#pragma once
#include <utility>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/dataset.hpp"
#include "bf/data/synthetic_face.hpp"

namespace bf {

struct SyntheticFacesOptions {
    std::int64_t identities = 1000;
    std::int64_t images_per_identity = 20;
    int size = 112;  ///< pixels a side
    std::uint64_t seed = 1;
    std::int64_t first_identity =
        0;                 ///< identities [first, first + identities) of the seed: disjoint ranges share nobody
    float difficulty = 1;  ///< scales pose, light, expression, occlusion, blur and noise
};

/// Index pairs and whether they show one identity.
struct IndexPairs {
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
    std::vector<char> same;
};

/// Drawn faces: image i shows identity i / images_per_identity and is a pure function of (seed, identity, image number,
/// size), so that training, tests and throughput runs need no files. Identities differ by face shape, features, hair,
/// skin, marks; images by pose, light, expression, occlusion, background, blur and noise.
class SyntheticFaces : public Dataset {
  public:
    explicit SyntheticFaces(const SyntheticFacesOptions& o) : options_(o) {
        BF_CHECK(o.identities > 0 && o.images_per_identity > 0 && o.first_identity >= 0, "SyntheticFaces",
                 "options; got identities ", o.identities, ", images_per_identity ", o.images_per_identity);
        BF_CHECK(o.size >= 16 && o.size <= 1024, "SyntheticFaces", "size; got ", o.size, ", want 16..1024");
    }
    std::int64_t size() const override { return options_.identities * options_.images_per_identity; }
    std::int64_t identities() const override { return options_.identities; }
    std::int64_t label(std::int64_t i) const override { return i / options_.images_per_identity; }
    std::string name(std::int64_t i) const override {
        return "synthetic/" + std::to_string(who(i)) + "/" + std::to_string(i % options_.images_per_identity);
    }
    Image image(std::int64_t i) const override {
        BF_CHECK(i >= 0 && i < size(), "SyntheticFaces", "index; got ", i, ", want 0..", size() - 1);
        const auto identity = static_cast<std::uint64_t>(who(i)),
                   number = static_cast<std::uint64_t>(i % options_.images_per_identity);
        const synthetic::Identity person(Rng(options_.seed, Stream::identity, identity));
        const synthetic::Nuisance nuisance(Rng(options_.seed, Stream::nuisance, identity, number), options_.difficulty);
        return synthetic::Renderer(person, nuisance, options_.size)
            .render(random_key(options_.seed + identity, Stream::nuisance) + number);
    }

    /// `count` pairs, same and different in turn, drawn from the seed.
    IndexPairs verification_pairs(std::int64_t count, std::uint64_t seed) const {
        BF_CHECK(options_.identities > 1 && options_.images_per_identity > 1, "SyntheticFaces",
                 "pairs want two identities with two images");
        IndexPairs out;
        Rng rng(seed, Stream::test, 17);
        const auto draw = [&rng](std::int64_t n) {
            return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(n)));
        };
        const std::int64_t per = options_.images_per_identity;
        for (std::int64_t k = 0; k < count; ++k) {
            const bool same = k % 2 == 0;
            const std::int64_t a = draw(options_.identities);
            const std::int64_t b = same ? a : (a + 1 + draw(options_.identities - 1)) % options_.identities;
            const std::int64_t i = draw(per), j = same ? (i + 1 + draw(per - 1)) % per : draw(per);
            out.pairs.emplace_back(a * per + i, b * per + j);
            out.same.push_back(same);
        }
        return out;
    }

  private:
    std::int64_t who(std::int64_t i) const { return options_.first_identity + i / options_.images_per_identity; }
    SyntheticFacesOptions options_;
};

}  // namespace bf

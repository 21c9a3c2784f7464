#pragma once
#include <cstdint>
#include <string>

#include "bf/core/tensor.hpp"
#include "bf/data/dataset.hpp"
#include "model.hpp"

namespace bf::program {

/// How images of a protocol become vectors.
struct CachedEmbedding {
    std::string what;   ///< in progress lines and facts: "IJB-C images, aligned by their landmarks"
    std::string cache;  ///< FILE.npy, or empty
    std::int64_t batch = 64;
    bool flip = true;
};

/// Raw embeddings [n, D] f32 of all images, with progress on stderr. With a cache, what was embedded is kept in
/// FILE.npy.part as it comes and goes on from there; FILE.npy stands when all is done, FILE.npy.txt says of what it is.
/// A cache of another model, list or option is a usage Error.
Tensor embed_cached(const Model& model, const Dataset& images, const CachedEmbedding& options);

}  // namespace bf::program

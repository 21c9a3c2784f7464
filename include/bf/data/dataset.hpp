#pragma once
#include <cstdint>
#include <string>

#include "bf/data/image.hpp"

namespace bf {

/// A list of labelled images. All members are const and may be called from several threads at once.
class Dataset {
  public:
    virtual ~Dataset() = default;
    /// Number of images.
    virtual std::int64_t size() const = 0;
    /// Number of identities K; labels are 0..K-1.
    virtual std::int64_t identities() const = 0;
    /// Identity of image i.
    virtual std::int64_t label(std::int64_t i) const = 0;
    /// Pixels of image i, RGB. Throws a data Error that names the image.
    virtual Image image(std::int64_t i) const = 0;
    /// The same into an image whose memory is used again. Where a file's format offers a smaller size (JPEG: 1/2, 1/4,
    /// 1/8), it is taken if its shorter side is at least `wanted_side` pixels; 0: never.
    virtual void load(std::int64_t i, int /*wanted_side*/, Image& into) const { into = image(i); }
    /// What to call image i in messages and lists (a path, or a made-up name).
    virtual std::string name(std::int64_t i) const = 0;
};

}  // namespace bf

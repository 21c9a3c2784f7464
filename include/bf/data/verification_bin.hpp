#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "bf/data/dataset.hpp"
#include "bf/data/decode.hpp"
#include "bf/io/pickle_numpy.hpp"

namespace bf {

/// InsightFace's verification set in one .bin file: the pickle (images, issame) of 2N encoded images and N booleans;
/// pair k is images 2k and 2k + 1. Written by Python 2 or 3, images as bytes or numpy uint8 arrays. The images stay in
/// the file; image() decodes one. Link bf::images. (formats-and-protocols C2)
class VerificationBin : public Dataset {
  public:
    explicit VerificationBin(const std::filesystem::path& path)
        : VerificationBin(std::make_shared<const FileSource>(path)) {}
    /// A data Error says what is wrong: another pickle, an odd number of images, as many pairs as booleans not.
    explicit VerificationBin(std::shared_ptr<const Source> source)
        : source_(std::move(source)),
          pickle_(*source_, {.globals = numpy_globals,
                             .remedy = "in Python, pickle.dump((images, issame), file) with images as bytes or numpy "
                                       "uint8 arrays and issame as booleans"}) {
        const std::string& file = source_->name();
        const PickleValue root = pickle_.root();
        BF_CHECK_DATA(is_sequence(root) && root.size() == 2 && is_sequence(root.item(0)), file,
                      "is not a verification set; want the pickle of (images, issame)");
        const PickleValue images = root.item(0);
        read_same(root.item(1));
        BF_CHECK_DATA(!same_.empty() && images.size() == 2 * same_.size(), file, "got ", images.size(), " images for ",
                      same_.size(), " pairs; want two a pair");
        for (std::int64_t i = 0; i < size(); ++i) stored(i);
        pairs_.reserve(same_.size());
        for (std::size_t k = 0; k < same_.size(); ++k)
            pairs_.emplace_back(static_cast<std::int64_t>(2 * k), static_cast<std::int64_t>(2 * k + 1));
    }

    VerificationBin(const VerificationBin&) = delete;
    VerificationBin& operator=(const VerificationBin&) = delete;

    std::int64_t size() const override { return static_cast<std::int64_t>(2 * same_.size()); }
    /// A bin says of pairs alone whether they show one person: each image counts as an identity of its own.
    std::int64_t identities() const override { return size(); }
    std::int64_t label(std::int64_t i) const override { return i; }
    std::string name(std::int64_t i) const override { return concat(source_->name(), ", image ", i); }
    /// The encoded image (JPEG or PNG).
    std::vector<std::byte> encoded(std::int64_t i) const {
        BF_CHECK(i >= 0 && i < size(), "VerificationBin", "index; got ", i, ", want 0..", size() - 1);
        const Stored s = stored(i);
        BF_CHECK_DATA(s.value.size() <= 4 * DecodeLimits{}.max_file, name(i), "got ", s.value.size(),
                      " bytes; want at most ", DecodeLimits{}.max_file);
        std::vector<std::byte> bytes = s.value.content();
        BF_CHECK_DATA(!s.array || bytes.size() == s.array->count, name(i), "numpy array; got ", bytes.size(),
                      " bytes, want ", s.array->count);
        return bytes;
    }
    Image image(std::int64_t i) const override { return decode_image(encoded(i), name(i)); }

    /// The places of each pair's images.
    const std::vector<std::pair<std::int64_t, std::int64_t>>& pairs() const { return pairs_; }
    /// 1 where a pair shows one person.
    const std::vector<char>& same() const { return same_; }

  private:
    struct Stored {
        PickleValue value;  ///< a string
        std::optional<PickledArray> array;
    };
    Stored stored(std::int64_t i) const {
        const PickleValue v = pickle_.root().item(0).item(static_cast<std::size_t>(i));
        if (v.is(PickleKind::bytes)) return {v, {}};
        const auto array = pickled_array(v, name(i));
        BF_CHECK_DATA(array, name(i), "is neither bytes nor a numpy uint8 array");
        BF_CHECK_DATA(array->dtype == "u1", name(i), "numpy array; got dtype ", array->dtype, ", want uint8");
        return {array->data, array};
    }
    static bool is_sequence(const PickleValue& v) { return v.is(PickleKind::list) || v.is(PickleKind::tuple); }
    void read_same(const PickleValue& v) {
        if (const auto array = pickled_array(v, source_->name() + ", issame")) {
            for (const std::byte b : bytes_of(*array, source_->name() + ", issame")) same_.push_back(b != std::byte{0});
            return;
        }
        BF_CHECK_DATA(is_sequence(v), source_->name(), "issame is neither a list nor a numpy array of booleans");
        for (std::size_t k = 0; k < v.size(); ++k) {
            const auto value = pickled_bool(v.item(k));
            BF_CHECK_DATA(value, source_->name(), "issame of pair ", k, " is no boolean");
            same_.push_back(*value);
        }
    }

    std::shared_ptr<const Source> source_;
    Pickle pickle_;
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs_;
    std::vector<char> same_;
};

}  // namespace bf

#pragma once
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bf/core/tensor.hpp"
#include "bf/data/align.hpp"
#include "bf/data/dataset.hpp"
#include "model.hpp"

namespace bf::program {

/// An image of a face on its way into a network.
struct Face {
    std::filesystem::path path;
    std::string name, identity;  ///< name: what lists call it
    std::optional<Landmarks> landmarks{};
};

/// Face images, aligned as bf align does where there are landmarks, else as they are. An image that cannot be read is
/// black and noted.
class FaceImages : public Dataset {
  public:
    FaceImages(std::vector<Face> faces, std::int64_t image_size)
        : faces_(std::move(faces)),
          side_(image_size % 112 == 0 || image_size % 128 == 0 ? static_cast<int>(image_size) : 112) {}
    std::int64_t size() const override { return static_cast<std::int64_t>(faces_.size()); }
    std::int64_t identities() const override { return size(); }
    std::int64_t label(std::int64_t i) const override { return i; }
    std::string name(std::int64_t i) const override { return faces_[static_cast<std::size_t>(i)].name; }
    Image image(std::int64_t i) const override;
    const std::vector<Face>& faces() const { return faces_; }
    /// Reasons of the images that could not be read, by their place.
    const std::map<std::int64_t, std::string>& bad() const { return bad_; }

  private:
    std::vector<Face> faces_;
    int side_;
    mutable std::mutex mutex_;
    mutable std::map<std::int64_t, std::string> bad_;
};

/// Every image below a folder, sorted; identity: the first sub-folder, else the file's name without ending.
std::vector<Face> faces_of_folder(const std::filesystem::path& folder);
/// Lines `path<TAB>identity[<TAB>..]`, a header `path<TAB>..` allowed; paths are relative to root.
std::vector<Face> faces_of_list(const std::filesystem::path& list, const std::filesystem::path& root);
/// Gives faces their landmarks from a list in the format of bf align; each face must have some.
void add_landmarks(std::vector<Face>& faces, const std::filesystem::path& list);

/// Faces with their raw embeddings [n, D], mirror image added. Images that cannot be read are left out and reported on
/// stderr; a share above max_bad_share of them, or all, is a data Error.
struct EmbeddedFaces {
    std::vector<Face> faces;
    Tensor embeddings;
    std::vector<std::string> bad;  ///< reasons
};
EmbeddedFaces embed_faces(const Model& model, std::vector<Face> faces, int batch, double max_bad_share, bool quiet);

/// Eight hex digits over parameters, statistics and input format of a network.
std::string model_mark(const Model& model);

/// Enrolled faces in a safetensors file: embeddings [n, D], names, and which network made them.
struct Gallery {
    Tensor embeddings;                         ///< [n, D] f32, raw
    std::vector<std::string> identity, file;   ///< one a row
    std::map<std::string, std::string> facts;  ///< network, mark, and a threshold where one was chosen

    static Gallery load(const std::filesystem::path& path);
    void save(const std::filesystem::path& path) const;
    /// Identity of each row as a number, 0 .. in order of appearance.
    std::vector<std::int64_t> labels() const;
    /// Throws a usage Error unless the network is the one that made the embeddings.
    void check_model(const Model& model, const std::filesystem::path& path) const;
    /// The stored threshold, if any.
    std::optional<double> threshold() const;
    /// `r50, crc32c 12345678`.
    std::string network() const;
};

}  // namespace bf::program

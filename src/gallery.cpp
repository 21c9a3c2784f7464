#include "gallery.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <numeric>

#include "bf/base/version.hpp"
#include "bf/data/decode.hpp"
#include "bf/data/file_dataset.hpp"
#include "bf/data/landmarks.hpp"
#include "bf/io/crc32c.hpp"
#include "bf/io/safetensors.hpp"
#include "bf/train/embed.hpp"
#include "work_progress.hpp"

namespace bf::program {

namespace fs = std::filesystem;

Image FaceImages::image(std::int64_t i) const {
    const Face& face = faces_[static_cast<std::size_t>(i)];
    try {
        const Image image = read_image(face.path);
        return face.landmarks ? align_face(image, *face.landmarks, side_, side_, WarpMode::opencv) : image;
    } catch (const Error& e) {
        if (e.code() != ErrorCode::data) throw;
        const std::lock_guard lock(mutex_);
        bad_[i] = e.op() == "landmarks" ? face.name + ": " + e.what() : e.what();
        return Image(side_, side_);
    }
}

std::vector<Face> faces_of_folder(const fs::path& folder) {
    BF_CHECK_DATA(fs::is_directory(folder), folder.string(), "is not a folder");
    std::vector<Face> faces;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file() || !has_image_ending(entry.path())) continue;
        const fs::path name = entry.path().lexically_relative(folder);
        const bool alone = !name.has_parent_path();
        faces.push_back({entry.path(), name.string(), alone ? name.stem().string() : name.begin()->string()});
    }
    std::sort(faces.begin(), faces.end(), [](const Face& a, const Face& b) { return a.name < b.name; });
    BF_CHECK_DATA(!faces.empty(), folder.string(), "holds no image (.jpg, .jpeg, .png, .pgm, .ppm)");
    return faces;
}

std::vector<Face> faces_of_list(const fs::path& list, const fs::path& root) {
    std::ifstream in(list);
    BF_CHECK_DATA(in && !fs::is_directory(list), list.string(), "cannot be read; hint: does the file exist?");
    std::vector<Face> faces;
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty() || (number == 1 && line.rfind("path\t", 0) == 0)) continue;
        const std::size_t tab = line.find('\t');
        const std::string identity =
            tab == std::string::npos ? "" : line.substr(tab + 1, line.find('\t', tab + 1) - tab - 1);
        BF_CHECK_DATA(tab > 0 && !identity.empty(), concat(list.string(), ":", number), "not `path<TAB>identity`; got ",
                      line.substr(0, 120));
        const std::string name = line.substr(0, tab);
        faces.push_back({root / name, name, identity});
    }
    BF_CHECK_DATA(!faces.empty(), list.string(), "names no image");
    return faces;
}

void add_landmarks(std::vector<Face>& faces, const fs::path& list) {
    std::map<std::string, Landmarks> known;
    read_landmarks(FileSource(list), [&](const FaceLandmarks& face) { known[face.file] = face.points; });
    for (Face& face : faces) {
        const auto it = known.find(face.name);
        BF_CHECK_DATA(it != known.end(), list.string(), "has no landmarks of ", face.name,
                      "; hint: it must name images as they are named here");
        face.landmarks = it->second;
    }
}

EmbeddedFaces embed_faces(const Model& model, std::vector<Face> faces, int batch, double max_bad_share, bool quiet) {
    const FaceImages images(std::move(faces), model.image_size);
    std::vector<std::int64_t> all(static_cast<std::size_t>(images.size()));
    std::iota(all.begin(), all.end(), 0);
    WorkProgress progress("images", images.size(), {}, WorkProgress::output(quiet));
    const Tensor e = embed(*model.net, images, all, model.image_size, {.batch_size = batch, .input = model.input},
                           progress.callback());
    EmbeddedFaces out;
    const auto& bad = images.bad();
    const auto good = images.size() - static_cast<std::int64_t>(bad.size());
    for (const auto& [i, reason] : bad) {
        std::fprintf(stderr, "bf: left out: %s\n", reason.c_str());
        out.bad.push_back(reason);
    }
    const double share = static_cast<double>(bad.size()) / static_cast<double>(images.size());
    BF_CHECK_DATA(good > 0 && share <= max_bad_share, "images", bad.size(), " of ", images.size(),
                  " cannot be used, want a share of at most ", max_bad_share, "; the first: ", bad.begin()->second);
    out.embeddings = Tensor::empty({good, e.dim(1)});
    for (std::int64_t i = 0, to = 0; i < images.size(); ++i) {
        if (bad.count(i)) continue;
        out.embeddings.rows(to, to + 1).copy_from(e.rows(i, i + 1));
        out.faces.push_back(images.faces()[static_cast<std::size_t>(i)]);
        ++to;
    }
    return out;
}

std::string model_mark(const Model& model) {
    std::uint32_t crc = crc32c(&model.input.scale, sizeof model.input.scale, model.input.bgr ? 1 : 0);
    crc = crc32c(&model.input.shift, sizeof model.input.shift, crc);
    crc = tensors_checksum(model.net->state(), crc);
    char text[16];
    std::snprintf(text, sizeof text, "%08x", crc);
    return text;
}

Gallery Gallery::load(const fs::path& path) {
    const SafeTensors content = load_safetensors(path);
    const std::string name = path.string();
    const auto kind = content.metadata.find("bf.kind");
    BF_CHECK_DATA(kind != content.metadata.end() && kind->second == "gallery", name,
                  "is not a gallery; hint: want a file of bf search enroll");
    const auto rows = content.tensors.find("embeddings"), names = content.tensors.find("names");
    BF_CHECK_DATA(rows != content.tensors.end() && names != content.tensors.end() && rows->second.rank() == 2 &&
                      rows->second.dtype() == DType::f32 && rows->second.dim(1) > 0 &&
                      names->second.dtype() == DType::u8,
                  name, "want embeddings [n, D] f32 and names u8");
    Gallery g;
    g.embeddings = rows->second;
    g.facts = content.metadata;
    const std::string text(reinterpret_cast<const char*>(names->second.data<std::uint8_t>()), names->second.bytes());
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        const std::size_t tab = text.find('\t', at);
        BF_CHECK_DATA(end != std::string::npos && tab < end, name, "names are damaged after ", g.file.size(), " rows");
        g.identity.push_back(text.substr(at, tab - at));
        g.file.push_back(text.substr(tab + 1, end - tab - 1));
    }
    BF_CHECK_DATA(static_cast<std::int64_t>(g.file.size()) == g.embeddings.dim(0), name, "holds ", g.file.size(),
                  " names, but embeddings ", g.embeddings.str());
    return g;
}

void Gallery::save(const fs::path& path) const {
    std::string text;
    for (std::size_t i = 0; i < file.size(); ++i) {
        BF_CHECK_DATA(identity[i].find_first_of("\t\n") == std::string::npos &&
                          file[i].find_first_of("\t\n") == std::string::npos,
                      path.string(), "names with tabs or line ends cannot be enrolled; got ", file[i]);
        text += identity[i] + "\t" + file[i] + "\n";
    }
    const Tensor names = Tensor::empty({static_cast<std::int64_t>(text.size())}, {.dtype = DType::u8});
    std::copy(text.begin(), text.end(), names.data<std::uint8_t>());
    std::map<std::string, std::string> metadata = facts;
    metadata["bf.kind"] = "gallery";
    metadata["bf.version"] = version;
    save_safetensors(path, {{"embeddings", embeddings}, {"names", names}}, metadata);
}

std::vector<std::int64_t> Gallery::labels() const {
    std::map<std::string, std::int64_t> numbers;
    std::vector<std::int64_t> out;
    for (const std::string& who : identity)
        out.push_back(numbers.try_emplace(who, static_cast<std::int64_t>(numbers.size())).first->second);
    return out;
}

void Gallery::check_model(const Model& model, const fs::path& path) const {
    const auto it = facts.find("bf.mark");
    const std::string mark = model_mark(model);
    BF_CHECK(it != facts.end() && it->second == mark, path.string(), "was enrolled with another network (", network(),
             "); got ", model.network, ", crc32c ", mark, "; hint: embeddings of two networks cannot be compared");
}

std::optional<double> Gallery::threshold() const {
    const auto it = facts.find("bf.threshold");
    if (it == facts.end()) return {};
    return std::strtod(it->second.c_str(), nullptr);
}

std::string Gallery::network() const {
    const auto fact = [this](const char* key) {
        const auto it = facts.find(key);
        return it == facts.end() ? std::string("unknown") : it->second;
    };
    return fact("bf.network") + ", crc32c " + fact("bf.mark");
}

}  // namespace bf::program

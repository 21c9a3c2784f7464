#include "bf/train/embed.hpp"

#include <cstdio>
#include <numeric>

#include "bf/data/file_dataset.hpp"
#include "bf/io/npy.hpp"
#include "commands.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

/// Every image below a folder, sorted, or the first column of a list.
std::vector<FileDataset::Entry> find_images(const EmbedArguments& a) {
    namespace fs = std::filesystem;
    if (!a.list.empty())
        return read_list(a.list, a.images.empty() ? fs::path(a.list).parent_path() : fs::path(a.images));
    BF_CHECK_DATA(fs::is_directory(a.images), a.images, "is not a folder");
    std::vector<FileDataset::Entry> entries;
    for (const auto& entry : fs::recursive_directory_iterator(a.images))
        if (entry.is_regular_file() && has_image_ending(entry.path())) entries.push_back({entry.path(), 0});
    std::sort(entries.begin(), entries.end(), [](const auto& x, const auto& y) { return x.path < y.path; });
    BF_CHECK_DATA(!entries.empty(), a.images, "holds no image (.jpg, .jpeg, .png, .pgm, .ppm)");
    return entries;
}

}  // namespace

int run_embed(const EmbedArguments& a) {
    BF_CHECK(!a.images.empty() || !a.list.empty(), "embed", "want --images FOLDER or --list FILE");
    // found out now, not after all the work
    const std::filesystem::path folder = std::filesystem::path(a.out).parent_path();
    BF_CHECK(folder.empty() || std::filesystem::is_directory(folder), "embed", "--out ", a.out, ": no folder ",
             folder.string(), "; hint: mkdir -p ", folder.string());
    const Model model = load_model(a.model, exact_device_of(a.device));
    const FileDataset images(find_images(a));
    std::vector<std::int64_t> all(static_cast<std::size_t>(images.size()));
    std::iota(all.begin(), all.end(), 0);
    WorkProgress progress("images", images.size());
    const Tensor e = embed(*model.net, images, all, model.image_size,
                           {.batch_size = a.batch, .flip = !a.no_flip, .input = model.input}, progress.callback());
    std::string names;
    for (const std::int64_t i : all) names += images.name(i) + "\n";
    save_npy(a.out + ".npy", e);
    write_file(a.out + ".txt", names);
    std::printf("%s.npy: %s, raw embeddings%s; %s.txt: the files in the same order\n", a.out.c_str(),
                e.shape().str().c_str(), a.no_flip ? "" : " (image plus mirror image)", a.out.c_str());
    return 0;
}

}  // namespace bf::program

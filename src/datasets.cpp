#include "datasets.hpp"

#include <chrono>
#include <cstdio>

#include "bf/data/file_dataset.hpp"
#include "bf/data/omniglot.hpp"
#include "bf/data/pairs.hpp"
#include "bf/data/record_dataset.hpp"
#include "bf/data/synthetic.hpp"
#include "bf/io/crc32c.hpp"
#include "bf/io/json.hpp"
#include "bf/train/embed.hpp"

namespace bf::program {
namespace {

/// Shows on stderr that labels are read, where that takes long enough to wonder.
std::function<void(std::int64_t, std::int64_t)> label_progress() {
    return [shown = std::chrono::steady_clock::now()](std::int64_t done, std::int64_t of) mutable {
        const auto now = std::chrono::steady_clock::now();
        if (now - shown < std::chrono::seconds(5) || done == of) return;
        shown = now;
        std::fprintf(stderr, "reading labels: %lld/%lld images; bf index --write once makes this a matter of seconds\n",
                     static_cast<long long>(done), static_cast<long long>(of));
    };
}

/// "a,b" as words; spaces about them are left out.
std::vector<std::string> words_of(const std::string& list) {
    std::vector<std::string> words;
    for (std::size_t at = 0; at < list.size();) {
        const std::size_t comma = std::min(list.find(',', at), list.size());
        std::string word = list.substr(at, comma - at);
        word.erase(0, word.find_first_not_of(' '));
        word.erase(word.find_last_not_of(' ') + 1);
        if (!word.empty()) words.push_back(std::move(word));
        at = comma + 1;
    }
    return words;
}

}  // namespace

std::unique_ptr<Dataset> open_training_data(const RunConfig& config) {
    const DataConfig& d = config.data;
    if (d.kind == "synthetic")
        return std::make_unique<SyntheticFaces>(SyntheticFacesOptions{.identities = d.identities,
                                                                      .images_per_identity = d.images_per_identity,
                                                                      .size = static_cast<int>(config.image_size),
                                                                      .seed = static_cast<std::uint64_t>(d.seed),
                                                                      .first_identity = d.first_identity,
                                                                      .difficulty = static_cast<float>(d.difficulty)});
    if (d.kind == "record") {
        auto records = std::make_unique<RecordDataset>(
            d.root, RecordDatasetOptions{.min_images = d.min_images, .progress = label_progress()});
        for (const std::string& note : records->notes()) std::fprintf(stderr, "bf: note: %s\n", note.c_str());
        return records;
    }
    if (d.kind == "omniglot")
        return std::make_unique<Omniglot>(d.root, OmniglotOptions{.only_alphabets = words_of(d.alphabets),
                                                                  .exclude_alphabets = words_of(d.exclude_alphabets)});
    const std::size_t cache = static_cast<std::size_t>(d.cache_mb) << 20;
    if (d.kind == "folder") return std::make_unique<FileDataset>(list_folder(d.root, d.min_images), cache);
    ListFilter filter{
        {d.only_folds.begin(), d.only_folds.end()}, {d.exclude_folds.begin(), d.exclude_folds.end()}, d.min_images};
    return std::make_unique<FileDataset>(read_list(d.list, d.root, filter), cache);
}

std::string describe_data(const RunConfig& config, const Dataset& data) {
    const DataConfig& d = config.data;
    if (d.kind == "synthetic")
        return concat("synthetic, identities ", d.first_identity, "..", d.first_identity + d.identities - 1, ", ",
                      d.images_per_identity, " images each, ", config.image_size, " pixels, seed ", d.seed,
                      ", difficulty ", json_number(d.difficulty));
    std::uint32_t crc = 0;
    if (const auto* records = dynamic_cast<const RecordDataset*>(&data))
        return concat(data.size(), " images, ", data.identities(), " identities, records crc32c ",
                      records->fingerprint());
    for (std::int64_t i = 0; i < data.size(); ++i) {
        std::string name = data.name(i);
        if (name.rfind(d.root, 0) == 0) name.erase(0, d.root.size());  // the same images in another place are the same
        name.erase(0, name.find_first_not_of('/'));
        name += concat('\n', data.label(i), '\n');
        crc = crc32c(name.data(), name.size(), crc);
    }
    return concat(data.size(), " images, ", data.identities(), " identities, crc32c ", crc);
}

ValidationSet open_validation(const ValConfig& val, std::int64_t image_size) {
    BF_CHECK(val.folds >= 2 && val.folds <= 1000, "folds", "got ", val.folds, ", want 2..1000");
    BF_CHECK(val.only_fold >= 0 && (val.only_fold == 0 || val.kind == "lfw"), "fold", "got ", val.only_fold,
             " with pairs of kind ", val.kind, "; only LFW's pairs file has folds, from 1 on");
    ValidationSet set;
    set.name = val.name;
    set.folds = static_cast<int>(val.folds);
    bool deal = true;
    if (val.kind == "synthetic") {
        auto faces =
            std::make_unique<SyntheticFaces>(SyntheticFacesOptions{.identities = val.identities,
                                                                   .images_per_identity = val.images_per_identity,
                                                                   .size = static_cast<int>(image_size),
                                                                   .first_identity = val.first_identity});
        IndexPairs pairs = faces->verification_pairs(val.pair_count, 1);
        set.pairs = std::move(pairs.pairs);
        set.same = std::move(pairs.same);
        set.images = std::move(faces);
    } else {
        VerificationPairs pairs = val.kind == "lfw"
                                      ? read_lfw_pairs(val.pairs, val.root, static_cast<int>(val.only_fold))
                                      : read_pair_list(val.pairs, val.root);
        std::vector<FileDataset::Entry> entries;
        for (auto& path : pairs.paths) entries.push_back({std::move(path), static_cast<std::int64_t>(entries.size())});
        set.images = std::make_unique<FileDataset>(std::move(entries), std::size_t{512} << 20);
        set.pairs = std::move(pairs.pairs);
        set.same = std::move(pairs.same);
        if (pairs.folds > 1) {
            deal = false;
            set.folds = pairs.folds;
            for (const int f : pairs.fold) set.fold.push_back(f - 1);
        }
        if (val.kind == "list") {  // contiguous folds, as the order of a list means them
            deal = false;
            set.fold = contiguous_folds(set.pairs.size(), set.folds);
        }
    }
    if (deal) {
        int next[2] = {0, 0};
        for (const char same : set.same) set.fold.push_back(next[same != 0]++ % set.folds);
    }
    return set;
}

Record Verification::record(std::uint64_t step) const {
    Record r("eval");
    r.put("step", static_cast<double>(step))
        .put("name", name)
        .put("pairs", static_cast<double>(pairs))
        .put("accuracy", folds.mean)
        .put("std", folds.std)
        .put("se", folds.standard_error)
        .put("threshold", folds.threshold)
        .put("auc", auc)
        .put("eer", eer)
        .put("tar_far_1e-3", tar_at_1e3)
        .put("tar_far_1e-2", tar_at_1e2)
        .put("tar_folds_1e-3", fold_tar.mean)
        .put("tar_folds_1e-3_std", fold_tar.std)
        .put("tar_folds_1e-3_far", fold_tar.far)
        .put("xnorm", x_norm)
        .put("roc", roc);
    return r;
}

std::string Verification::line() const {
    char text[256];
    std::snprintf(
        text, sizeof text,
        "[%s] XNorm %.3f  Accuracy-Flip %.5f+-%.5f (SE %.5f)  AUC %.5f  EER %.4f  TAR@FAR 1e-2 %.4f  1e-3 %.4f",
        name.c_str(), x_norm, folds.mean, folds.std, folds.standard_error, auc, eer, tar_at_1e2, tar_at_1e3);
    return text;
}

Verification score(const ValidationSet& set, const Tensor& embeddings, double x_norm) {
    Verification v;
    v.name = set.name;
    v.pairs = set.pairs.size();
    const std::vector<double> distances = pair_distances(embeddings, set.pairs);
    v.folds = verify_explicit_folds(distances, set.same, set.fold, set.folds);
    v.fold_tar = tar_explicit_folds(distances, set.same, set.fold, set.folds);
    std::vector<double> scores;
    for (const double d : distances) scores.push_back(1 - d / 2);
    const Roc roc(scores, set.same);
    v.auc = roc.auc();
    v.eer = roc.eer();
    v.tar_at_1e2 = roc.tar_at(1e-2);
    v.tar_at_1e3 = roc.tar_at(1e-3);
    v.x_norm = x_norm;
    v.roc = roc.thinned(48);
    return v;
}

Verification verify(Module& net, const ValidationSet& set, std::int64_t image_size, const InputFormat& input,
                    const std::function<void(std::int64_t)>& progress) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(set.images->size()));
    std::iota(all.begin(), all.end(), 0);
    double x_norm = 0;
    const Tensor e = embed(net, *set.images, all, image_size, {.input = input}, progress, &x_norm);
    return score(set, e, x_norm);
}

Verification verify_pixels(const ValidationSet& set) {
    constexpr int side = 32;
    const std::int64_t n = set.images->size();
    const Tensor pixels = Tensor::empty({n, side * side});
    for (std::int64_t i = 0; i < n; ++i) {
        const Image image = to_square(set.images->image(i), side);
        float *row = pixels.data<float>() + i * side * side, mean = 0;
        for (int k = 0; k < side * side; ++k) {
            const std::uint8_t* p = image.pixels.data() + 3 * k;
            row[k] = 0.299f * static_cast<float>(p[0]) + 0.587f * static_cast<float>(p[1]) +
                     0.114f * static_cast<float>(p[2]);
            mean += row[k] / (side * side);
        }
        for (int k = 0; k < side * side; ++k) row[k] -= mean;
    }
    return score(set, pixels, mean_norm(pixels));
}

}  // namespace bf::program

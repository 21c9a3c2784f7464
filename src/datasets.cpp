#include "datasets.hpp"

#include <cstdio>
#include <set>

#include "bf/data/face_pairs.hpp"
#include "bf/data/file_dataset.hpp"
#include "bf/data/omniglot.hpp"
#include "bf/data/record_dataset.hpp"
#include "bf/data/synthetic.hpp"
#include "bf/data/verification_bin.hpp"
#include "bf/eval/retrieval.hpp"
#include "bf/io/crc32c.hpp"
#include "bf/io/json.hpp"
#include "bf/train/embed.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

/// Shows on stderr that labels are read, where that takes long enough to wonder.
std::function<void(std::int64_t, std::int64_t)> label_progress() {
    return [progress = std::shared_ptr<WorkProgress>()](std::int64_t done, std::int64_t of) mutable {
        if (!progress)
            progress =
                std::make_shared<WorkProgress>("labels read (bf index --write makes it a matter of seconds)", of);
        progress->show(done);
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
    const ListFilter filter{{d.only_folds.begin(), d.only_folds.end()},
                            {d.exclude_folds.begin(), d.exclude_folds.end()},
                            d.min_images,
                            static_cast<int>(d.identity_folds)};
    if (d.kind == "folder") return std::make_unique<FileDataset>(list_folder(d.root, filter), cache);
    return std::make_unique<FileDataset>(read_list(d.list, d.root, filter), cache);
}

namespace {
/// A path without the folder it is below: the same images in another place have the same names.
std::string below(const std::string& root, std::string name) {
    if (name.rfind(root, 0) == 0) name.erase(0, root.size());
    name.erase(0, name.find_first_not_of('/'));
    return name;
}
}  // namespace

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
        std::string name = below(d.root, data.name(i));
        name += concat('\n', data.label(i), '\n');
        crc = crc32c(name.data(), name.size(), crc);
    }
    return concat(data.size(), " images, ", data.identities(), " identities, crc32c ", crc);
}

namespace {

/// The frames of the videos that `pairs` names, in sorted order.
void open_frames(ValidationSet& set, const VerificationPairs& pairs) {
    constexpr std::size_t most = 20000000;
    std::vector<FileDataset::Entry> entries;
    for (const auto& video : pairs.paths) {
        BF_CHECK_DATA(std::filesystem::is_directory(video), video.string(), "is not a folder of frames");
        set.frames.push_back(static_cast<std::int64_t>(entries.size()));
        std::vector<std::filesystem::path> files;
        for (const auto& file : std::filesystem::directory_iterator(video))
            if (has_image_ending(file.path())) files.push_back(file.path());
        BF_CHECK_DATA(!files.empty(), video.string(), "holds no frame (.jpg, .jpeg, .png, .pgm, .ppm)");
        std::sort(files.begin(), files.end());
        for (auto& file : files) entries.push_back({std::move(file), static_cast<std::int64_t>(set.frames.size()) - 1});
        BF_CHECK_DATA(entries.size() <= most, video.string(), "too many frames; want at most ", most);
    }
    set.frames.push_back(static_cast<std::int64_t>(entries.size()));
    set.images = std::make_unique<FileDataset>(std::move(entries));
}

/// Takes over what a reader of lists gives.
void take(ValidationSet& set, VerificationPairs pairs, const std::string& root, bool videos = false) {
    for (const auto& path : pairs.paths) set.items.push_back(below(root, path.string()));
    if (videos) {
        open_frames(set, pairs);
    } else {
        std::vector<FileDataset::Entry> entries;
        for (auto& path : pairs.paths) entries.push_back({std::move(path), static_cast<std::int64_t>(entries.size())});
        set.images = std::make_unique<FileDataset>(std::move(entries), std::size_t{512} << 20);
    }
    set.pairs = std::move(pairs.pairs);
    set.same = std::move(pairs.same);
    set.subject = std::move(pairs.subject);
    set.notes = std::move(pairs.notes);
    if (pairs.folds > 1) {
        set.folds = pairs.folds;
        for (const int f : pairs.fold) set.fold.push_back(f - 1);
    }
}

/// Takes labelled images with pairs that are drawn: same and different in turn, at most `most` and no pair twice.
void take_labelled(ValidationSet& set, std::unique_ptr<Dataset> images, const std::string& root, std::int64_t most) {
    std::vector<std::vector<std::int64_t>> of_label(static_cast<std::size_t>(images->identities()));
    for (std::int64_t i = 0; i < images->size(); ++i) {
        set.items.push_back(below(root, images->name(i)));
        set.subject.push_back(images->label(i));
        of_label[static_cast<std::size_t>(images->label(i))].push_back(i);
    }
    std::vector<std::pair<std::int64_t, std::int64_t>> same;
    for (const auto& members : of_label)
        for (std::size_t a = 0; a < members.size(); ++a)
            for (std::size_t b = a + 1; b < members.size(); ++b) same.emplace_back(members[a], members[b]);
    BF_CHECK_DATA(!same.empty() && of_label.size() > 1, root, "want two identities, and one with two images; got ",
                  of_label.size(), " identities, ", images->size(), " images");
    Rng rng(1, Stream::test, 18);
    const auto draw = [&rng](std::int64_t n) {
        return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(n)));
    };
    const std::int64_t n = images->size(),
                       count = std::min<std::int64_t>(most / 2, static_cast<std::int64_t>(same.size()));
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (std::int64_t k = 0; k < count; ++k) {
        // the first `count` of a shuffled list
        std::swap(same[static_cast<std::size_t>(k)],
                  same[static_cast<std::size_t>(k + draw(static_cast<std::int64_t>(same.size()) - k))]);
        set.pairs.push_back(same[static_cast<std::size_t>(k)]);
        set.same.push_back(1);
        for (int tries = 0; tries < 1000; ++tries) {  // a set of few images may have fewer different pairs
            const std::int64_t a = draw(n), b = draw(n);
            if (set.subject[static_cast<std::size_t>(a)] == set.subject[static_cast<std::size_t>(b)] ||
                !seen.emplace(std::min(a, b), std::max(a, b)).second)
                continue;
            set.pairs.emplace_back(a, b);
            set.same.push_back(0);
            break;
        }
    }
    set.images = std::move(images);
    set.retrieval = true;
}

VerificationPairs read_pairs(const ValConfig& val) {
    const std::string& kind = val.kind;
    const int folds = static_cast<int>(val.folds);
    if (kind == "lfw") return read_lfw_pairs(val.pairs, val.root, static_cast<int>(val.only_fold));
    if (kind == "cfp_fp") return read_cfp_pairs(val.pairs, val.root, CfpProtocol::frontal_profile);
    if (kind == "cfp_ff") return read_cfp_pairs(val.pairs, val.root, CfpProtocol::frontal_frontal);
    if (kind == "agedb") return read_two_line_pairs(val.pairs, val.root, NameRule::second_part, folds);
    if (kind == "calfw" || kind == "cplfw")
        return read_two_line_pairs(val.pairs, val.root, NameRule::up_to_number, folds);
    if (kind == "ytf") return read_ytf_pairs(val.pairs, val.root);
    return read_pair_list(val.pairs, val.root);
}

/// Found out now, not at the first evaluation of a run.
void want_both_kinds(const ValidationSet& set, const std::string& list) {
    const auto same = std::count(set.same.begin(), set.same.end(), 1);
    BF_CHECK_DATA(same > 0 && same < static_cast<std::ptrdiff_t>(set.same.size()), list,
                  "want pairs of both kinds; got ", same, " same, ", set.same.size() - static_cast<std::size_t>(same),
                  " different");
}

/// Contiguous folds mean a list in which same and different pairs take turns: notes where they do not.
void note_one_kind(ValidationSet& set) {
    std::vector<int> kinds(static_cast<std::size_t>(set.folds), 0);
    for (std::size_t i = 0; i < set.pairs.size(); ++i)
        kinds[static_cast<std::size_t>(set.fold[i])] |= set.same[i] ? 1 : 2;
    const auto alone = std::count_if(kinds.begin(), kinds.end(), [](int k) { return k != 3; });
    if (alone)
        set.notes.push_back(
            concat("warning: ", alone, " of ", set.folds,
                   " folds hold pairs of one kind alone: the thresholds of the others do not suit them; "
                   "want same and different pairs in turn"));
}

}  // namespace

std::string ValidationSet::item(std::int64_t i) const {
    return items.empty() ? images->name(i) : items[static_cast<std::size_t>(i)];
}

ValidationSet open_validation(const ValConfig& val, std::int64_t image_size) {
    BF_CHECK(val.folds >= 2 && val.folds <= 1000, "folds", "got ", val.folds, ", want 2..1000");
    BF_CHECK(val.only_fold >= 0 && (val.only_fold == 0 || val.kind == "lfw" || val.kind == "folder"), "fold", "got ",
             val.only_fold, " with pairs of kind ", val.kind,
             "; --fold and only_fold go with LFW's pairs file (and kind folder with identity_folds) alone, from 1 on");
    ValidationSet set;
    set.name = val.name;
    set.folds = static_cast<int>(val.folds);
    if (val.kind == "synthetic") {
        auto faces =
            std::make_unique<SyntheticFaces>(SyntheticFacesOptions{.identities = val.identities,
                                                                   .images_per_identity = val.images_per_identity,
                                                                   .size = static_cast<int>(image_size),
                                                                   .first_identity = val.first_identity});
        IndexPairs pairs = faces->verification_pairs(val.pair_count, 1);
        set.pairs = std::move(pairs.pairs);
        set.same = std::move(pairs.same);
        for (std::int64_t i = 0; i < faces->size(); ++i) set.subject.push_back(faces->label(i));
        set.images = std::move(faces);
    } else if (val.kind == "folder") {
        ListFilter filter{.identity_folds = static_cast<int>(val.identity_folds)};
        if (val.only_fold > 0) filter.only_folds = {static_cast<int>(val.only_fold)};
        take_labelled(set, std::make_unique<FileDataset>(list_folder(val.root, filter), std::size_t{512} << 20),
                      val.root, val.pair_count);
    } else if (val.kind == "omniglot") {
        take_labelled(set,
                      std::make_unique<Omniglot>(val.root, OmniglotOptions{.only_alphabets = words_of(val.alphabets)}),
                      val.root, val.pair_count);
        set.flip = false;  // a mirrored character is another one
    } else if (val.kind == "bin") {
        auto bin = std::make_unique<VerificationBin>(val.pairs);
        set.pairs = bin->pairs();
        set.same = bin->same();
        for (std::int64_t i = 0; i < bin->size(); ++i) set.items.push_back(std::to_string(i));
        set.images = std::move(bin);
        BF_CHECK_DATA(set.pairs.size() >= static_cast<std::size_t>(set.folds), val.pairs, "has ", set.pairs.size(),
                      " pairs for ", set.folds, " folds; hint: fewer folds");
    } else {
        take(set, read_pairs(val), val.root, val.kind == "ytf");
    }
    if (set.fold.empty()) {
        if (val.kind == "list" || val.kind == "bin") {  // contiguous, as the order of a list means them
            set.fold = contiguous_folds(set.pairs.size(), set.folds);
            note_one_kind(set);
        } else {
            int next[2] = {0, 0};
            for (const char same : set.same) set.fold.push_back(next[same != 0]++ % set.folds);
        }
    }
    if (val.kind != "synthetic") want_both_kinds(set, set.retrieval ? val.root : val.pairs);
    return set;
}

ValidationSet open_lfw_view1(const std::filesystem::path& train, const std::filesystem::path& test,
                             const std::filesystem::path& root) {
    ValidationSet set;
    set.name = "lfw_view1";
    take(set, read_lfw_view1(train, test, root), root.string());
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
    if (retrieval) r.put("recall_at_1", recall_at_1).put("map_at_r", map_at_r);
    return r;
}

std::string Verification::line() const {
    char text[256];
    std::snprintf(
        text, sizeof text,
        "[%s] XNorm %.3f  Accuracy-Flip %.5f+-%.5f (SE %.5f)  AUC %.5f  EER %.4f  TAR@FAR 1e-2 %.4f  1e-3 %.4f",
        name.c_str(), x_norm, folds.mean, folds.std, folds.standard_error, auc, eer, tar_at_1e2, tar_at_1e3);
    if (!retrieval) return text;
    char more[64];
    std::snprintf(more, sizeof more, "  Recall@1 %.4f  MAP@R %.4f", recall_at_1, map_at_r);
    return std::string(text) + more;
}

Verification score(const ValidationSet& set, const Tensor& embeddings, double x_norm) {
    Verification v;
    v.name = set.name;
    v.pairs = set.pairs.size();
    v.distances = pair_distances(embeddings, set.pairs);
    const std::vector<double>& distances = v.distances;
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
    if (set.retrieval) {
        const RetrievalResult found = retrieve(embeddings, set.subject, {.ks = {1}});
        v.retrieval = true;
        v.recall_at_1 = found.recall[0];
        v.map_at_r = found.map_at_r;
    }
    return v;
}

namespace {

/// The compared items of a set from their images: embed(begin, end, &norm) gives the embeddings of a range and their
/// mean raw norm. Frames are taken some videos at a time, so that those of a whole set need not fit in memory.
template <class Embed>
Verification score_items(const ValidationSet& set, Embed&& embed_range) {
    const std::int64_t n = set.images->size();
    double norm = 0;
    if (set.frames.empty()) {
        const Tensor e = embed_range(0, n, &norm);
        return score(set, e, norm);
    }
    constexpr std::int64_t at_once = 4096;
    const std::size_t videos = set.frames.size() - 1;
    Tensor all;
    double norms = 0;
    for (std::size_t v = 0; v < videos;) {
        std::size_t last = v + 1;
        while (last < videos && set.frames[last + 1] - set.frames[v] <= at_once) ++last;
        std::vector<std::int64_t> begin;
        for (std::size_t i = v; i <= last; ++i) begin.push_back(set.frames[i] - set.frames[v]);
        const Tensor e = embed_range(set.frames[v], set.frames[last], &norm);
        const Tensor means = mean_rows(e, begin);
        if (!all.defined()) all = Tensor::empty({static_cast<std::int64_t>(videos), means.dim(1)});
        all.rows(static_cast<std::int64_t>(v), static_cast<std::int64_t>(last)).copy_from(means);
        norms += norm * static_cast<double>(begin.back());
        v = last;
    }
    return score(set, all, norms / static_cast<double>(n));
}

}  // namespace

Verification verify(Module& net, const ValidationSet& set, std::int64_t image_size, const InputFormat& input,
                    const std::function<void(std::int64_t)>& progress) {
    return score_items(set, [&](std::int64_t begin, std::int64_t end, double* norm) {
        std::vector<std::int64_t> some(static_cast<std::size_t>(end - begin));
        std::iota(some.begin(), some.end(), begin);
        return embed(
            net, *set.images, some, image_size, {.flip = set.flip, .input = input},
            [&](std::int64_t done) { progress(begin + done); }, norm);
    });
}

Tensor pixel_embeddings(const Dataset& images, std::int64_t begin, std::int64_t end) {
    constexpr int side = 32;
    const Tensor pixels = Tensor::empty({end - begin, side * side});
    for (std::int64_t i = begin; i < end; ++i) {
        const Image image = to_square(images.image(i), side);
        float *row = pixels.data<float>() + (i - begin) * side * side, mean = 0;
        for (int k = 0; k < side * side; ++k) {
            const std::uint8_t* p = image.pixels.data() + 3 * k;
            row[k] = 0.299f * static_cast<float>(p[0]) + 0.587f * static_cast<float>(p[1]) +
                     0.114f * static_cast<float>(p[2]);
            mean += row[k] / (side * side);
        }
        for (int k = 0; k < side * side; ++k) row[k] -= mean;
    }
    return pixels;
}

Verification verify_pixels(const ValidationSet& set) {
    return score_items(set, [&](std::int64_t begin, std::int64_t end, double* norm) {
        const Tensor pixels = pixel_embeddings(*set.images, begin, end);
        *norm = mean_norm(pixels);
        return pixels;
    });
}

}  // namespace bf::program

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <unordered_map>

#include "bf/data/file_dataset.hpp"
#include "bf/data/omniglot.hpp"
#include "bf/data/retrieval_lists.hpp"
#include "bf/eval/bootstrap.hpp"
#include "bf/eval/retrieval.hpp"
#include "bf/io/npy.hpp"
#include "bf/train/embed.hpp"
#include "commands.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "score_files.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// The images of a set, and which are searched for in which.
struct RetrievalSet {
    std::string protocol;
    std::unique_ptr<Dataset> images;
    std::vector<std::int64_t> query, gallery;  ///< both empty: each image among all others
    std::vector<std::string> notes;
    std::vector<std::int64_t> ks;
};

RetrievalSet open_set(const RetrievalArguments& a) {
    RetrievalSet set;
    const RetrievalSplit split = a.split == "train" ? RetrievalSplit::train : RetrievalSplit::test;
    const auto list = [&](const char* usual) { return a.list.empty() ? (fs::path(a.root) / usual).string() : a.list; };
    RetrievalList found;
    set.ks = {1, 2, 4, 8};
    const std::string half = a.split + " half of the classes";
    if (a.set == "sop") {
        const FileSource source(list(split == RetrievalSplit::train ? "Ebay_train.txt" : "Ebay_test.txt"));
        found = read_sop_list(source, a.root);
        set.protocol = "Stanford Online Products, " + half;
        set.ks = {1, 10, 100, 1000};
    } else if (a.set == "inshop") {
        const FileSource source(list("list_eval_partition.txt"));
        found = read_inshop_list(source, a.root);
        set.protocol = "In-Shop, queries against the gallery";
        set.ks = {1, 10, 20, 30, 40};
    } else if (a.set == "cub") {
        found = read_cub_list(a.root, split);
        set.protocol = "CUB-200-2011, " + half;
    } else if (a.set == "cars") {
        const bool official = fs::exists(fs::path(a.root) / "cars_annos.mat");
        const FileSource source(list(official ? "cars_annos.mat" : "cars.txt"));
        found = read_cars_list(source, a.root, split);
        set.protocol = "Cars196, " + half;
    } else if (a.set == "omniglot") {
        set.images = std::make_unique<Omniglot>(a.root);
        set.protocol = "Omniglot, each drawing among all others";
    } else if (a.set == "folder") {
        set.images = std::make_unique<FileDataset>(list_folder(a.root));
        set.protocol = "image folder, each image among all others";
    } else {
        const FileSource source(a.list);
        found = read_label_list(source, a.root);
        set.protocol = "list, each image among all others";
    }
    if (!set.images) {
        std::vector<FileDataset::Entry> entries;
        for (auto& e : found.images) entries.push_back({std::move(e.path), e.label});
        set.images = std::make_unique<FileDataset>(std::move(entries));
        set.query = std::move(found.query);
        set.gallery = std::move(found.gallery);
        set.notes = std::move(found.notes);
    }
    if (!a.ks.empty()) set.ks = a.ks;
    std::sort(set.ks.begin(), set.ks.end());
    set.ks.erase(std::unique(set.ks.begin(), set.ks.end()), set.ks.end());
    return set;
}

/// The rows of a .npy file in the order of the images: by name where bf embed left its list of names beside it, else
/// as they stand.
Tensor load_embeddings(const std::string& file, const Dataset& images, const std::string& root, std::string& order) {
    Tensor e = load_npy(file);
    BF_CHECK_DATA(e.rank() == 2 && e.dtype() == DType::f32, file, "embeddings; got ", e.str(), ", want [n, D] f32");
    const fs::path names = fs::path(file).replace_extension(".txt");
    if (!fs::exists(names)) {
        BF_CHECK_DATA(e.dim(0) == images.size(), file, "got ", e.dim(0), " rows for ", images.size(), " images");
        order = "as the set lists its images";
        return e;
    }
    order = "by the names in " + names.string();
    const FileSource source(names);
    LineReader in(source);
    std::unordered_map<std::string, std::int64_t> rows;
    std::string_view line;
    std::int64_t count = 0;
    while (in.next_filled(line)) rows.emplace(fs::path(line).lexically_normal().string(), count++);
    BF_CHECK_DATA(count == e.dim(0), names.string(), "got ", count, " names for ", e.dim(0), " rows of ", file);
    Tensor out = Tensor::empty({images.size(), e.dim(1)});
    for (std::int64_t i = 0; i < images.size(); ++i) {
        const fs::path name = fs::path(images.name(i)).lexically_normal();
        auto row = rows.find(name.string());
        if (row == rows.end()) row = rows.find(name.lexically_relative(fs::path(root).lexically_normal()).string());
        BF_CHECK_DATA(row != rows.end(), names.string(), "has no row for image ", name.string(),
                      "; hint: bf embed with the same --images folder");
        out.rows(i, i + 1).copy_from(e.rows(row->second, row->second + 1));
    }
    return out;
}

Tensor rows_of(const Tensor& e, const std::vector<std::int64_t>& places) {
    Tensor out = Tensor::empty({static_cast<std::int64_t>(places.size()), e.dim(1)});
    for (std::size_t i = 0; i < places.size(); ++i)
        out.rows(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i) + 1)
            .copy_from(e.rows(places[i], places[i] + 1));
    return out;
}

}  // namespace

int run_retrieval(const RetrievalArguments& a) {
    const int sources = !a.model.empty() + !a.embeddings.empty() + a.pixels;
    BF_CHECK(sources == 1, "eval retrieval",
             "want one of --model FILE or RUN, --embeddings X.npy, --pixels (the baseline); got ", sources);
    BF_CHECK(!a.root.empty(), "eval retrieval", "want --root FOLDER");
    BF_CHECK(a.set != "list" || !a.list.empty(), "eval retrieval",
             "--set list wants --list FILE of lines `path label`");
    BF_CHECK(a.list.empty() || (a.set != "cub" && a.set != "omniglot" && a.set != "folder"), "eval retrieval",
             "--list does not go with --set ", a.set, ", which has its own layout under --root");
    BF_CHECK(a.split == "test" || a.set == "sop" || a.set == "cub" || a.set == "cars", "eval retrieval",
             "--split train goes with sop, cub and cars");
    for (const std::int64_t k : a.ks) BF_CHECK(k >= 1, "eval retrieval", "--k; got ", k, ", want 1 or more");
    if (!a.out.empty()) check_output_folder(a.out);
    Model model;
    if (!a.model.empty()) model = load_model(a.model, exact_device_of(a.device));
    const RetrievalSet set = open_set(a);
    const std::int64_t n = set.images->size();
    std::vector<std::int64_t> labels, all(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) labels.push_back(set.images->label(i));
    std::iota(all.begin(), all.end(), 0);

    ProtocolReport r;
    std::string source;
    Tensor e;
    if (model.net) {
        WorkProgress progress("images", n);
        e = embed(*model.net, *set.images, all, model.image_size, {.flip = a.flip, .input = model.input},
                  progress.callback());
        source = a.flip ? "embedding: image and mirror image summed" : "embedding: of the image alone, no mirror image";
    } else if (a.pixels) {
        e = pixel_embeddings(*set.images, 0, n);
        source = "embedding: mean-free grey pixels at 32 x 32 (no network)";
    } else {
        e = load_embeddings(a.embeddings, *set.images, a.root, source);
        source = "embedding: rows of " + a.embeddings + ", " + source;
    }
    const bool apart = !set.query.empty();
    WorkProgress progress("queries", apart ? static_cast<std::int64_t>(set.query.size()) : n);
    const RetrievalOptions options{.ks = set.ks, .progress = progress.callback()};
    const auto labels_of = [&](const std::vector<std::int64_t>& places) {
        std::vector<std::int64_t> out;
        for (const std::int64_t i : places) out.push_back(labels[static_cast<std::size_t>(i)]);
        return out;
    };
    const std::vector<std::int64_t> queries = apart ? set.query : all, query_labels = labels_of(queries);
    const RetrievalResult found =
        apart ? retrieve(rows_of(e, set.query), query_labels, rows_of(e, set.gallery), labels_of(set.gallery), options)
              : retrieve(e, labels, options);

    r.protocol = set.protocol;
    r.rules = {source, "nearest by L2 distance of normalised embeddings, equal distances by the lower index",
               apart ? "a query is searched in the gallery alone"
                     : "an image is left out of its own search by its index, so that exact duplicates stay",
               "Recall@K: 1 if one of the K nearest has the query's label, mean over all queries; a query without "
               "another image of its label counts as a miss",
               "R-precision, MAP@R: over the queries with another image of their label"};
    r.facts = {{"root", a.root},
               {"model", !a.model.empty() ? a.model
                         : a.pixels       ? "pixels"
                                          : a.embeddings},
               {"queries", std::to_string(found.queries)},
               {"gallery", std::to_string(found.gallery)},
               {"labels", std::to_string(set.images->identities())},
               {"queries without a match", std::to_string(found.without_match)}};
    for (const std::string& note : set.notes) r.facts.emplace_back("note", note);

    QueryResults rows;
    const std::size_t count = found.ks.size() + 2;
    for (const std::int64_t k : found.ks) rows.measures.push_back("recall@" + std::to_string(k));
    rows.measures.insert(rows.measures.end(), {"r_precision", "map_at_r"});
    rows.label = query_labels;
    std::vector<std::vector<double>> columns(count);
    for (std::size_t q = 0; q < queries.size(); ++q) {
        rows.values.emplace_back();
        for (const std::int64_t k : found.ks)
            rows.values[q].push_back(found.first_hit[q] > 0 && found.first_hit[q] <= k ? 1 : 0);
        rows.values[q].insert(rows.values[q].end(), {found.query_r_precision[q], found.query_map_at_r[q]});
        for (std::size_t k = 0; k < count; ++k) columns[k].push_back(rows.values[q][k]);
        const fs::path name = fs::path(set.images->name(queries[q])).lexically_normal();
        rows.query.push_back(name.lexically_relative(fs::path(a.root).lexically_normal()).string());
    }
    std::vector<Interval> by_query(count, {0, 0}), by_class = by_query;
    if (a.rounds > 0) {
        const auto means = [&](std::span<const std::uint32_t> weights, std::span<double> out) {
            for (std::size_t k = 0; k < count; ++k) out[k] = weighted_mean(columns[k], weights);
        };
        by_query = bootstrap(Resampling::items(queries.size()), count, means, {.rounds = a.rounds});
        by_class = bootstrap(Resampling::clusters(query_labels), count, means, {.rounds = a.rounds});
        r.rules.push_back(concat("intervals: 95 %, percentile bootstrap over queries, ", a.rounds,
                                 " rounds; table by_class: the classes are drawn, with all their queries"));
        r.tables.push_back({"by_class", {"figure", "value", "low", "high"}, {}});
    }
    const auto text = [](double v) {
        char digits[32];
        std::snprintf(digits, sizeof digits, "%.5f", v);
        return std::string(digits);
    };
    std::vector<std::pair<double, double>> points;
    for (std::size_t k = 0; k < count; ++k) {
        const bool recall = k < found.ks.size();
        const std::string name = recall                 ? "Recall@" + std::to_string(found.ks[k])
                                 : k == found.ks.size() ? "R-precision"
                                                        : "MAP@R";
        const double value = recall ? found.recall[k] : k == found.ks.size() ? found.r_precision : found.map_at_r;
        if (recall) points.emplace_back(static_cast<double>(found.ks[k]), value);
        if (!recall && found.without_match == found.queries) continue;  // not defined for any query
        r.figures.push_back({name, value, by_query[k].low, by_query[k].high});
        if (a.rounds > 0)
            r.tables[0].rows.push_back({name, text(value), text(by_class[k].low), text(by_class[k].high)});
    }
    r.curves.emplace_back("recall", Chart{r.protocol, "K", "Recall@K", true, {{"recall", 0, points, false}}});
    std::fputs(a.json ? r.json().c_str() : r.text().c_str(), stdout);
    if (!a.out.empty()) {
        r.write(a.out);
        write_query_results(fs::path(a.out) / "queries.csv", rows);
    }
    return 0;
}

}  // namespace bf::program

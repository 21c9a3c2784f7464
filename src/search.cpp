#include "bf/eval/search.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <set>
#include <utility>

#include "bf/eval/calibrate.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "bf/io/npy.hpp"
#include "commands.hpp"
#include "csv.hpp"
#include "gallery.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// The faces that --images, --list and single files name.
std::vector<Face> find_faces(const SearchArguments& a) {
    BF_CHECK((!a.folder.empty()) + (!a.list.empty()) + (!a.images.empty()) == 1, "search",
             "want one of --images FOLDER, --list FILE",
             a.action == "query" ? ", --embeddings FILE and single images" : "");
    std::vector<Face> faces;
    if (!a.folder.empty()) faces = faces_of_folder(a.folder);
    if (!a.list.empty())
        faces = faces_of_list(a.list, a.root.empty() ? fs::path(a.list).parent_path() : fs::path(a.root));
    for (const std::string& image : a.images) faces.push_back({image, image, ""});
    if (!a.landmarks.empty()) add_landmarks(faces, a.landmarks);
    return faces;
}

/// What a user reads of the size of a gallery.
std::string describe(const Gallery& g) {
    return concat(g.file.size(), " images of ", std::set<std::string>(g.identity.begin(), g.identity.end()).size(),
                  " identities");
}

/// A threshold was chosen from the pairs of the gallery as it was.
void drop_threshold(Gallery& g) {
    if (g.facts.erase("bf.threshold"))
        std::fprintf(stderr, "bf: the gallery changed: its threshold is dropped; hint: bf search calibrate again\n");
    g.facts.erase("bf.threshold_far");
}

void check_writable(const fs::path& path) {
    const fs::path folder = path.parent_path();
    BF_CHECK(folder.empty() || fs::is_directory(folder), path.string(), "no folder ", folder.string(),
             "; hint: mkdir -p ", folder.string());
}

int enroll(const SearchArguments& a) {
    const bool adding = a.action == "add";
    const fs::path path = adding ? a.gallery : a.out;
    check_writable(path);
    BF_CHECK(adding || a.overwrite || !fs::exists(path), path.string(),
             "is there already; hint: bf search add --gallery ", path.string(), ", or --overwrite");
    Gallery g;
    if (adding) g = Gallery::load(path);
    std::vector<Face> faces = find_faces(a);
    std::set<std::string> known(g.file.begin(), g.file.end());
    const std::size_t found = faces.size();
    std::erase_if(faces, [&](const Face& f) { return !known.insert(f.name).second; });
    const std::size_t kept = found - faces.size();
    const Model model = load_model(a.model, exact_device_of(a.device));
    if (adding) g.check_model(model, path);
    EmbeddedFaces e;
    if (!faces.empty()) {
        e = embed_faces(model, std::move(faces), a.batch, a.max_bad_share, a.quiet);
        const std::int64_t before = static_cast<std::int64_t>(g.file.size()), more = e.embeddings.dim(0);
        const Tensor all = Tensor::empty({before + more, e.embeddings.dim(1)});
        if (before > 0) all.rows(0, before).copy_from(g.embeddings);
        all.rows(before, before + more).copy_from(e.embeddings);
        g.embeddings = all;
        for (const Face& f : e.faces) {
            g.identity.push_back(f.identity);
            g.file.push_back(f.name);
        }
        if (adding) drop_threshold(g);
        g.facts["bf.network"] = model.network;
        g.facts["bf.mark"] = model_mark(model);
        g.facts["bf.embedding"] = "raw, image plus mirror image";
        g.save(path);
    }
    if (a.json)
        std::printf("{\"kind\":\"enroll\",\"gallery\":%s,\"enrolled\":%zu,\"known\":%zu,\"bad\":%zu,\"images\":%zu}\n",
                    json_quote(path.string()).c_str(), e.faces.size(), kept, e.bad.size(), g.file.size());
    else
        std::printf("%s: %zu images enrolled, %zu were known, %zu left out; now %s (%s)\n", path.c_str(),
                    e.faces.size(), kept, e.bad.size(), describe(g).c_str(), g.network().c_str());
    return 0;
}

int list(const SearchArguments& a) {
    const Gallery g = Gallery::load(a.gallery);
    std::map<std::string, std::size_t> images;
    for (const std::string& who : g.identity) ++images[who];
    if (a.json) {
        std::string line = "{\"kind\":\"gallery\",\"images\":" + std::to_string(g.file.size()) +
                           ",\"network\":" + json_quote(g.network());
        if (g.threshold()) line += ",\"threshold\":" + json_number(*g.threshold());
        line += ",\"identities\":{";
        for (const auto& [who, count] : images)
            line += (line.back() == '{' ? "" : ",") + json_quote(who) + ":" + std::to_string(count);
        std::puts((line + "}}").c_str());
        return 0;
    }
    std::printf("%s: %s (%s), embeddings %s\n", a.gallery.c_str(), describe(g).c_str(), g.network().c_str(),
                g.embeddings.shape().str().c_str());
    if (g.threshold()) std::printf("threshold %.5f (FAR %s)\n", *g.threshold(), g.facts.at("bf.threshold_far").c_str());
    for (const auto& [who, count] : images) std::printf("%6zu  %s\n", count, who.c_str());
    return 0;
}

int remove(const SearchArguments& a) {
    BF_CHECK(!a.identities.empty() || !a.files.empty(), "remove", "want --identity NAME or --file NAME (repeatable)");
    check_writable(a.gallery);
    Gallery g = Gallery::load(a.gallery);
    const auto names = [](const std::vector<std::string>& all, const std::string& one) {
        return std::find(all.begin(), all.end(), one) != all.end();
    };
    for (const auto& [wanted, have, what] :
         {std::tuple{&a.identities, &g.identity, "identity"}, std::tuple{&a.files, &g.file, "file"}})
        for (const std::string& one : *wanted)
            BF_CHECK(names(*have, one), a.gallery, "holds no ", what, " ", one, "; hint: bf search list --gallery ",
                     a.gallery);
    std::vector<std::int64_t> stay;
    for (std::size_t i = 0; i < g.file.size(); ++i)
        if (!names(a.identities, g.identity[i]) && !names(a.files, g.file[i]))
            stay.push_back(static_cast<std::int64_t>(i));
    const std::size_t gone = g.file.size() - stay.size();
    const Tensor rows = Tensor::empty({static_cast<std::int64_t>(stay.size()), g.embeddings.dim(1)});
    for (std::size_t to = 0; to < stay.size(); ++to) {
        const auto from = static_cast<std::size_t>(stay[to]);
        rows.rows(static_cast<std::int64_t>(to), static_cast<std::int64_t>(to) + 1)
            .copy_from(g.embeddings.rows(stay[to], stay[to] + 1));
        g.identity[to] = g.identity[from];
        g.file[to] = g.file[from];
    }
    g.identity.resize(stay.size());
    g.file.resize(stay.size());
    g.embeddings = rows;
    drop_threshold(g);
    g.save(a.gallery);
    if (a.json)
        std::printf("{\"kind\":\"remove\",\"removed\":%zu,\"images\":%zu}\n", gone, g.file.size());
    else
        std::printf("%s: %zu images removed; now %s\n", a.gallery.c_str(), gone, describe(g).c_str());
    return 0;
}

FarThreshold choose_threshold(const Gallery& g, double far, bool quiet) {
    WorkProgress progress("rows compared", g.file.size(), {}, WorkProgress::output(quiet));
    return far_threshold(g.embeddings, g.labels(), far, progress.callback());
}

std::string describe(const FarThreshold& t, double far) {
    return concat("FAR at most ", json_number(far), ": ", t.impostors_accepted, " of all ", t.impostors,
                  " pairs of different people accepted, ", t.genuine_accepted, " of ", t.genuine, " of one person");
}

int calibrate(const SearchArguments& a) {
    BF_CHECK(!std::isnan(a.far), "calibrate", "want --far F, such as --far 1e-3");
    check_writable(a.gallery);
    Gallery g = Gallery::load(a.gallery);
    const FarThreshold t = choose_threshold(g, a.far, a.quiet);
    g.facts["bf.threshold"] = json_number(t.threshold);
    g.facts["bf.threshold_far"] = json_number(a.far);
    g.save(a.gallery);
    if (a.json)
        std::printf(
            "{\"kind\":\"calibrate\",\"threshold\":%s,\"far\":%s,\"impostors\":%lld,\"impostors_accepted\":%lld,"
            "\"genuine\":%lld,\"genuine_accepted\":%lld}\n",
            json_number(t.threshold).c_str(), json_number(a.far).c_str(), static_cast<long long>(t.impostors),
            static_cast<long long>(t.impostors_accepted), static_cast<long long>(t.genuine),
            static_cast<long long>(t.genuine_accepted));
    else
        std::printf("%s: threshold %.6f, stored; same if cosine >= threshold\n%s\n", a.gallery.c_str(), t.threshold,
                    describe(t, a.far).c_str());
    return 0;
}

/// The best row of an identity.
struct Hit {
    std::size_t row;
    double cosine;
};

/// The `top` best identities of each query, each by its best image. More and more rows are asked for until that many
/// identities stand among them: all rows before the last are better than those not seen, so these identities are the
/// best.
std::vector<std::vector<Hit>> search(const Gallery& g, const Tensor& queries, int top) {
    const std::vector<std::int64_t> label = g.labels();
    const std::int64_t n = g.embeddings.dim(0);
    const std::size_t identities = std::set<std::int64_t>(label.begin(), label.end()).size(),
                      want = std::min(static_cast<std::size_t>(top), identities);
    std::vector<std::vector<Hit>> out(static_cast<std::size_t>(queries.dim(0)));
    std::vector<std::int64_t> open(out.size());
    std::iota(open.begin(), open.end(), 0);
    for (std::int64_t k = std::min<std::int64_t>(n, 2 * top + 8); !open.empty(); k = std::min(n, 4 * k)) {
        const std::vector<std::int64_t> asked = std::exchange(open, {});
        const auto block = std::max<std::size_t>(1, (std::size_t{1} << 22) / static_cast<std::size_t>(k));
        for (std::size_t begin = 0; begin < asked.size(); begin += block) {
            const std::size_t count = std::min(block, asked.size() - begin);
            const Tensor rows = Tensor::empty({static_cast<std::int64_t>(count), queries.dim(1)});
            for (std::size_t i = 0; i < count; ++i) {
                const auto to = static_cast<std::int64_t>(i), from = asked[begin + i];
                rows.rows(to, to + 1).copy_from(queries.rows(from, from + 1));
            }
            const TopK found = top_k(rows, g.embeddings, k);
            for (std::size_t i = 0; i < count; ++i) {
                const std::int64_t* at = found.indices.data<std::int64_t>() + static_cast<std::int64_t>(i) * k;
                const float* score = found.scores.data<float>() + static_cast<std::int64_t>(i) * k;
                std::vector<Hit> hits;
                std::set<std::int64_t> seen;
                for (std::int64_t r = 0; r < k && hits.size() < want; ++r)
                    if (seen.insert(label[static_cast<std::size_t>(at[r])]).second)
                        hits.push_back({static_cast<std::size_t>(at[r]), static_cast<double>(score[r])});
                if (hits.size() < want)
                    open.push_back(asked[begin + i]);
                else
                    out[static_cast<std::size_t>(asked[begin + i])] = std::move(hits);
            }
        }
    }
    return out;
}

/// Queries as rows with names.
struct Queries {
    Tensor rows;
    std::vector<std::string> names;
    std::size_t bad = 0;
};

Queries find_queries(const SearchArguments& a, const Gallery& g) {
    Queries out;
    if (!a.embeddings.empty()) {
        BF_CHECK(a.folder.empty() && a.images.empty() && a.list.empty() && a.landmarks.empty(), "search",
                 "--embeddings goes without images");
        out.rows = load_npy(a.embeddings);
        BF_CHECK_DATA(out.rows.rank() == 2 && out.rows.dtype() == DType::f32 &&
                          out.rows.dim(1) == g.embeddings.dim(1) && out.rows.dim(0) > 0,
                      a.embeddings, "got ", out.rows.str(), ", want [Q, ", g.embeddings.dim(1), "] f32");
        std::ifstream in(fs::path(a.embeddings).replace_extension(".txt"));  // what bf embed writes beside it
        for (std::string line; std::getline(in, line);) out.names.push_back(line);
        if (static_cast<std::int64_t>(out.names.size()) != out.rows.dim(0)) {
            out.names.clear();
            for (std::int64_t i = 0; i < out.rows.dim(0); ++i) out.names.push_back("row " + std::to_string(i));
        }
        return out;
    }
    std::vector<Face> faces = find_faces(a);
    BF_CHECK(!a.model.empty(), "search", "want --model: the network that the gallery was enrolled with (", g.network(),
             ")");
    const Model model = load_model(a.model, exact_device_of(a.device));
    g.check_model(model, a.gallery);
    EmbeddedFaces e = embed_faces(model, std::move(faces), a.batch, 1, a.quiet);
    out.rows = e.embeddings;
    out.bad = e.bad.size();
    for (const Face& f : e.faces) out.names.push_back(f.name);
    return out;
}

int query(const SearchArguments& a) {
    const bool given = !std::isnan(a.threshold), chosen = !std::isnan(a.far);
    BF_CHECK(!given || !chosen, "search", "want one of --threshold and --far");
    if (!a.csv.empty()) check_writable(a.csv);
    const Gallery g = Gallery::load(a.gallery);
    BF_CHECK_DATA(!g.file.empty(), a.gallery, "holds no image");
    const Queries queries = find_queries(a, g);
    std::optional<double> threshold;
    std::string rule = "none; hint: --threshold, --far or bf search calibrate";
    if (given) {
        threshold = a.threshold;
        rule = "given";
    } else if (chosen) {
        const FarThreshold t = choose_threshold(g, a.far, a.quiet);
        threshold = t.threshold;
        rule = describe(t, a.far);
    } else if ((threshold = g.threshold())) {
        rule = "FAR " + g.facts.at("bf.threshold_far") + ", stored in the gallery";
    }
    const auto hits = search(g, queries.rows, a.top);
    std::string json = "{\"kind\":\"search\",\"gallery\":" + json_quote(a.gallery) +
                       ",\"threshold\":" + (threshold ? json_number(*threshold) : "null") +
                       ",\"threshold_rule\":" + json_quote(rule) + ",\"queries\":[";
    std::string csv = "query,rank,identity,cosine,file,match\n", text;
    std::size_t width = 8, matched = 0;
    for (const auto& all : hits)
        for (const Hit& h : all) width = std::max(width, g.identity[h.row].size());
    for (std::size_t q = 0; q < hits.size(); ++q) {
        json += (q ? ",{\"query\":" : "{\"query\":") + json_quote(queries.names[q]) + ",\"best\":[";
        text += queries.names[q] + "\n";
        matched += threshold && hits[q][0].cosine >= *threshold;
        for (std::size_t r = 0; r < hits[q].size(); ++r) {
            const Hit& h = hits[q][r];
            const bool match = threshold && h.cosine >= *threshold;
            const std::string word = !threshold ? "" : match ? "match" : "no match", cosine = json_number(h.cosine);
            json += concat(r ? ",{" : "{", "\"identity\":", json_quote(g.identity[h.row]), ",\"cosine\":", cosine,
                           ",\"file\":", json_quote(g.file[h.row]));
            if (threshold) json += match ? ",\"match\":true" : ",\"match\":false";
            json += "}";
            csv += csv_field(queries.names[q]) + "," + std::to_string(r + 1) + "," + csv_field(g.identity[h.row]) +
                   "," + cosine + "," + csv_field(g.file[h.row]) + "," +
                   (!threshold ? ""
                    : match    ? "1"
                               : "0") +
                   "\n";
            char line[64];
            std::snprintf(line, sizeof line, "  %2zu  %8.5f  %-8s  ", r + 1, h.cosine, word.c_str());
            text += line + g.identity[h.row] + std::string(width - g.identity[h.row].size() + 2, ' ') + g.file[h.row] +
                    "\n";
        }
        json += "]}";
    }
    if (!a.csv.empty()) write_file(a.csv, csv);
    if (a.json) {
        std::puts((json + "]}").c_str());
    } else {
        std::printf("gallery %s: %s (%s)\nthreshold %s (%s)\n", a.gallery.c_str(), describe(g).c_str(),
                    g.network().c_str(), threshold ? json_number(*threshold).c_str() : "-", rule.c_str());
        std::fputs(text.c_str(), stdout);
        std::printf("%zu queries", hits.size());
        if (threshold) std::printf(", %zu with a match, %zu without", matched, hits.size() - matched);
        std::printf("\n");
    }
    std::fflush(stdout);
    BF_CHECK_DATA(queries.bad == 0, "search", queries.bad, " query images could not be used (named above)");
    return 0;
}

}  // namespace

int run_search(const SearchArguments& a) {
    if (a.action == "enroll" || a.action == "add") return enroll(a);
    if (a.action == "remove") return remove(a);
    if (a.action == "list") return list(a);
    if (a.action == "calibrate") return calibrate(a);
    return query(a);
}

}  // namespace bf::program

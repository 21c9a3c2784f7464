#include <cmath>
#include <cstdio>

#include "bf/data/landmarks.hpp"
#include "bf/eval/calibrate.hpp"
#include "bf/eval/verification.hpp"
#include "bf/io/json.hpp"
#include "commands.hpp"
#include "gallery.hpp"

namespace bf::program {
namespace {

/// A threshold of the cosine with where it comes from.
struct Threshold {
    double cosine = 0;
    std::string source;
};

/// The mean threshold of the folds that bf eval writes (eval.json), a squared distance d: cosine 1 - d / 2.
Threshold threshold_of_report(const std::string& path) {
    const FileSource source(path);
    BF_CHECK_DATA(source.size() <= (1 << 24), path, "is too large for an eval.json of bf eval");
    const auto bytes = source.bytes(0, source.size());
    const Json report = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
    const Json* value = report.find("threshold");
    BF_CHECK_DATA(report.string_or("kind", "") == "eval" && value && value->is(Json::Kind::number), path,
                  "has no threshold; hint: want the eval.json of bf eval --out");
    return {1 - value->number / 2, "best accuracy on " + report.string_or("name", "pairs") + " of " + path};
}

}  // namespace

int run_compare(const CompareArguments& a) {
    const bool given = !std::isnan(a.threshold), chosen = !std::isnan(a.far);
    BF_CHECK(given + !a.gallery.empty() + !a.eval.empty() <= 1, "compare",
             "want one of --threshold, --gallery and --eval");
    BF_CHECK(!chosen || !a.gallery.empty(), "compare",
             "--far wants --gallery, whose pairs of different people it counts");
    BF_CHECK(a.landmarks.empty() || a.landmarks.size() == 2, "--landmarks", "got ", a.landmarks.size(),
             " texts, want two: x1,y1,..,x5,y5 of each image");
    std::vector<Face> faces{{a.first, a.first, ""}, {a.second, a.second, ""}};
    for (std::size_t i = 0; i < a.landmarks.size(); ++i) {
        FaceLandmarks parsed;
        BF_CHECK(detail::parse_landmarks("image," + a.landmarks[i], parsed), "--landmarks", "got ", a.landmarks[i],
                 ", want x1,y1,..,x5,y5 (or 68 points)");
        faces[i].landmarks = parsed.points;
    }
    Threshold threshold{a.threshold, "given"};
    if (!a.eval.empty()) threshold = threshold_of_report(a.eval);
    const Model model = load_model(a.model, exact_device_of(a.device));
    if (!a.gallery.empty()) {
        const Gallery g = Gallery::load(a.gallery);
        g.check_model(model, a.gallery);
        if (chosen) {
            const FarThreshold t = far_threshold(g.embeddings, g.labels(), a.far);
            threshold = {t.threshold, concat("FAR ", json_number(a.far), " on ", t.impostors, " pairs of ", a.gallery)};
        } else {
            BF_CHECK(g.threshold(), a.gallery, "has no threshold; hint: --far F, or bf search calibrate first");
            threshold = {*g.threshold(), concat("FAR ", g.facts.at("bf.threshold_far"), ", stored in ", a.gallery)};
        }
    }
    const EmbeddedFaces e = embed_faces(model, faces, 2, 0, true);
    const double distance = pair_distances(e.embeddings, std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}})[0],
                 cosine = 1 - distance / 2;
    const bool known = !std::isnan(threshold.cosine), same = cosine >= threshold.cosine;
    if (a.json) {
        std::string line = "{\"kind\":\"compare\",\"a\":" + json_quote(a.first) + ",\"b\":" + json_quote(a.second) +
                           ",\"cosine\":" + json_number(cosine) + ",\"squared_distance\":" + json_number(distance);
        if (known)
            line += ",\"threshold\":" + json_number(threshold.cosine) +
                    ",\"threshold_source\":" + json_quote(threshold.source) + ",\"same\":" + (same ? "true" : "false");
        std::puts((line + "}").c_str());
        return 0;
    }
    std::printf("cosine            %.5f\nsquared distance  %.5f\n", cosine, distance);
    if (known)
        std::printf("%s  (cosine %s threshold %.5f: %s)\n", same ? "same" : "different", same ? ">=" : "<",
                    threshold.cosine, threshold.source.c_str());
    else
        std::puts("no threshold: neither same nor different; hint: --threshold, --eval or --gallery");
    return 0;
}

}  // namespace bf::program

// Where the data sets of the full scale lie below --data, and what is missing there.
#include <algorithm>
#include <fstream>

#include "bf/io/json.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

struct PublishedBin {
    const char *name, *file;
};
constexpr PublishedBin bins[] = {{"LFW", "lfw.bin"},
                                 {"CFP-FP", "cfp_fp.bin"},
                                 {"AgeDB-30", "agedb_30.bin"},
                                 {"CALFW", "calfw.bin"},
                                 {"CPLFW", "cplfw.bin"}};

/// A set that bf eval measures after the training.
struct OtherSet {
    const char *prefix, *name, *folder, *command;
};
constexpr OtherSet others[] = {{"IJB-B ", "ijbb", "IJBB", "bf eval ijb --set ijbb"},
                               {"IJB-C ", "ijbc", "IJBC", "bf eval ijb --set ijbc"},
                               {"SOP ", "sop", "Stanford_Online_Products", "bf eval retrieval --set sop"},
                               {"In-Shop ", "inshop", "In-shop", "bf eval retrieval --set inshop"}};

const OtherSet* other_set(const std::string& what) {
    for (const OtherSet& o : others)
        if (what.rfind(o.prefix, 0) == 0) return &o;
    return nullptr;
}

}  // namespace

void place_data(const ReproduceArguments& a, RunConfig& c, std::vector<std::string>& missing) {
    const auto miss = [&missing](const std::string& line) {
        if (std::find(missing.begin(), missing.end(), line) == missing.end()) missing.push_back(line);
    };
    const fs::path folder = a.data;
    if (!c.pretrained.empty()) {
        c.pretrained = (folder / c.pretrained).string();
        if (!fs::exists(c.pretrained))
            miss(c.pretrained +
                 ": the weights that the network starts from; the row's configuration in configs/paper says "
                 "how bf import makes it");
    }
    if (c.data.kind == "record") {
        // DIR/faces_emore, or DIR is that folder itself
        const fs::path set = fs::exists(folder / "train.rec") ? folder : folder / c.data.root;
        c.data.root = set.string();
        if (!fs::exists(set / "train.rec"))
            miss((set / "train.rec").string() +
                 ": the training images, with train.idx and property beside it "
                 "(InsightFace's " +
                 set.filename().string() + ", or bf pack)");
        bool any = false;
        for (const PublishedBin& b : bins) {
            if (!fs::exists(set / b.file)) continue;
            ValConfig val;
            val.name = b.name;
            val.kind = "bin";
            val.pairs = (set / b.file).string();
            c.val.push_back(val);
            any = true;
        }
        if (!any)
            miss((set / bins[0].file).string() +
                 ": one verification set or more (lfw.bin, cfp_fp.bin, agedb_30.bin, "
                 "calfw.bin, cplfw.bin; they come with InsightFace's sets)");
    } else if (c.data.kind == "list") {
        c.data.root = (folder / c.data.root).string();
        c.data.list = (folder / c.data.list).string();
        if (!fs::is_directory(c.data.root)) miss(c.data.root + ": the folder of the images");
        if (!fs::exists(c.data.list))
            miss(c.data.list + ": the training list; the row's configuration in configs/paper says how it is made");
    }
}

std::optional<double> other_figure(const PlannedRun& run, const std::string& what) {
    const OtherSet* set = other_set(what);
    if (!set) return {};
    const fs::path file = run.folder / "eval" / set->name / "report.json";
    std::ifstream in(file, std::ios::binary);
    if (!in) return {};
    const Json report = parse_json(std::string(std::istreambuf_iterator<char>(in), {}), file.string());
    const Json* figures = report.find("figures");
    const Json* figure = figures ? figures->find(what.substr(std::string(set->prefix).size())) : nullptr;
    if (!figure) return {};
    return figure->number_or("value", 0);
}

std::string other_command(const ReproduceArguments& a, const PlannedRun& run, const std::string& what) {
    const OtherSet* set = other_set(what);
    if (!set) return "";
    return concat(set->command, " --root ", (fs::path(a.data) / set->folder).string(), " --model ", run.folder.string(),
                  " --out ", (run.folder / "eval" / set->name).string());
}

}  // namespace bf::program

// IJB 1:1 at its real size on made templates and pairs: reading the pair list, scoring, the ROC. --write gives the same
// templates and pairs to peers/numpy_pairs.py, which does them as the reference does and compares the scores.
#include <sys/resource.h>

#include <filesystem>

#include "bf/base/random.hpp"
#include "bf/eval/ijb.hpp"
#include "bf/io/npy.hpp"
#include "measure.hpp"

namespace {

double peak_mib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
}

void body(int argc, char** argv) {
    const bench::Options o(argc, argv,
                           {{"templates", "23124"},
                            {"gallery", "3531"},
                            {"pairs", "15658557"},
                            {"genuine", "19557"},
                            {"dim", "512"},
                            {"repeats", "3"},
                            {"write", ""},
                            {"json", ""}});
    const std::int64_t t = o.number("templates"), g = o.number("gallery"), n = o.number("pairs"), dim = o.number("dim");
    BF_CHECK(0 < g && g < t && o.number("genuine") < n, "ijb_pairs", "want gallery < templates and genuine < pairs");
    // as in IJB-C: the first template of a pair is one of the gallery, the second a probe, in no order
    bf::Templates templates;
    templates.features = bf::Tensor::empty({t, dim}, {.dtype = bf::DType::f64});
    bf::parallel_for(t, 64, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            bf::Rng rng(7, bf::Stream::test, 1, static_cast<std::uint64_t>(i));
            double* row = templates.features.data<double>() + i * dim;
            double squares = 0;
            for (std::int64_t d = 0; d < dim; ++d)
                row[d] = static_cast<double>(rng.normal()), squares += row[d] * row[d];
            for (std::int64_t d = 0; d < dim; ++d) row[d] /= std::sqrt(squares);
        }
    });
    for (std::int64_t i = 0; i < t; ++i) templates.id.push_back(static_cast<std::uint32_t>(i + 1));
    std::string text;
    text.reserve(static_cast<std::size_t>(n) * 16);
    bf::Rng rng(7);
    for (std::int64_t i = 0; i < n; ++i) {
        char line[40];
        const auto a = rng.below(static_cast<std::uint64_t>(g)) + 1,
                   b = rng.below(static_cast<std::uint64_t>(t - g)) + static_cast<std::uint64_t>(g) + 1;
        const int size = std::snprintf(line, sizeof line, "%u %u %d\n", static_cast<unsigned>(a),
                                       static_cast<unsigned>(b), i % (n / o.number("genuine")) == 0);
        text.append(line, static_cast<std::size_t>(size));
    }
    const double made = peak_mib();
    const bf::MemorySource file(std::as_bytes(std::span(text)), "made pairs");
    std::vector<double> read_s, score_s, roc_s;
    bf::IjbPairs pairs;
    std::vector<double> scores;
    const double fars[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
    for (std::int64_t r = 0; r < o.number("repeats"); ++r) {
        pairs = {};
        scores = {};
        read_s.push_back(bench::seconds(bf::cpu_device, [&] { pairs = bf::read_ijb_pairs(file); }));
        score_s.push_back(bench::seconds(bf::cpu_device, [&] {
            bf::to_rows(templates, pairs.first, "made pairs");
            bf::to_rows(templates, pairs.second, "made pairs");
            scores = bf::pair_scores(templates.features, pairs.first, pairs.second);
        }));
        roc_s.push_back(bench::seconds(bf::cpu_device, [&] {
            const bf::ScoreRoc roc(scores, pairs.same);
            const auto nearest = roc.nearest(fars);
            for (std::size_t i = 0; i < nearest.size() && r == 0; ++i)
                std::printf("FAR %.0e: nearest TAR %.6f at FAR %.3e, strict TAR %.6f\n", fars[i], nearest[i].tar,
                            nearest[i].far, roc.strict(fars[i]).tar);
        }));
    }
    const double read = bench::median(read_s), score = bench::median(score_s), roc = bench::median(roc_s);
    std::printf(
        "%lld pairs of %lld templates x %lld, %d threads: read %.2f s (%.0f MB), score %.2f s, ROC %.2f s\n"
        "peak memory %.0f MiB, of which the made input %.0f MiB\n",
        static_cast<long long>(n), static_cast<long long>(t), static_cast<long long>(dim), bf::cpu_pool().threads(),
        read, static_cast<double>(text.size()) / 1e6, score, roc, peak_mib(), made);
    bench::Results results(o.text("json"), bench::Fields().put("benchmark", "ijb_pairs"));
    results.add(bench::Fields()
                    .put("pairs", n)
                    .put("templates", t)
                    .put("dim", dim)
                    .put("read_s", read)
                    .put("score_s", score)
                    .put("roc_s", roc)
                    .put("peak_mib", peak_mib()));
    if (o.text("write").empty()) return;
    const std::filesystem::path folder = o.text("write");
    std::filesystem::create_directories(folder);
    bf::save_npy(folder / "features.npy", templates.features);
    bf::save_npy(folder / "scores.npy", bf::Tensor::from<double>(scores, {n}));
    const bf::Tensor list = bf::Tensor::empty({3, n}, {.dtype = bf::DType::i32});
    for (std::int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        list.data<std::int32_t>()[i] = static_cast<std::int32_t>(pairs.first[at]);
        list.data<std::int32_t>()[n + i] = static_cast<std::int32_t>(pairs.second[at]);
        list.data<std::int32_t>()[2 * n + i] = pairs.same[at];
    }
    bf::save_npy(folder / "pairs.npy", list);
}

}  // namespace

int main(int argc, char** argv) {
    return bench::guarded("bench_ijb_pairs", [&] { body(argc, argv); });
}

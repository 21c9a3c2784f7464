#include <cstdio>
#include <set>

#include "bf/eval/significance.hpp"
#include "bf/eval/verification_intervals.hpp"
#include "commands.hpp"
#include "protocol.hpp"
#include "score_files.hpp"

namespace bf::program {
namespace {

/// One line of the table of tests, and the difference as a figure.
void add(ProtocolReport& r, const std::string& name, double first, double second, Interval interval, double p,
         const std::string& test) {
    r.figures.push_back({name + " A-B", first - second, interval.low, interval.high});
    r.figures.push_back({name + " p", p, 0, 0, 6});
    r.tables[0].rows.push_back({name, number(first), number(second), number(first - second), number(interval.low),
                                number(interval.high), number(p, "%.4g"), test});
}

void compare_pairs(ProtocolReport& r, const std::vector<PairScore>& a, const std::vector<PairScore>& b, int rounds) {
    const auto same_pair = [](const PairScore& x, const PairScore& y) {
        return x.same == y.same && x.fold == y.fold && x.first == y.first && x.second == y.second;
    };
    BF_CHECK_DATA(a.size() == b.size(), "significance", "different pairs; got ", a.size(), " and ", b.size(), " pairs");
    std::vector<double> scores[2];
    std::vector<char> same, right[2];
    std::vector<int> fold;
    int folds = 1;
    for (std::size_t i = 0; i < a.size(); ++i) {
        BF_CHECK_DATA(same_pair(a[i], b[i]), "significance", "different pairs, the first in line ", i + 2, ": ",
                      a[i].first, " and ", a[i].second, " against ", b[i].first, " and ", b[i].second,
                      "; hint: both must be reports of the same list");
        same.push_back(a[i].same);
        fold.push_back(a[i].fold - 1);
        folds = std::max(folds, a[i].fold);
        for (int m = 0; m < 2; ++m) {
            const PairScore& s = m ? b[i] : a[i];
            scores[m].push_back(s.score);
            right[m].push_back(s.accepted == s.same);
        }
    }
    r.protocol = "paired test of two verifications";
    r.rules = {"accuracy: McNemar's exact test of the decisions, two-sided",
               "TAR, AUC, EER: both models on the same resampled pairs; p: twice the smaller share of rounds on either "
               "side of 0",
               concat("intervals of A - B: 95 %, percentile bootstrap over pairs, ", rounds, " rounds")};
    r.facts.emplace_back("pairs", std::to_string(a.size()));
    const McNemar m = mcnemar(right[0], right[1]);
    r.facts.emplace_back("right in A alone", std::to_string(m.only_first));
    r.facts.emplace_back("right in B alone", std::to_string(m.only_second));
    const WeightedRoc roc[2] = {{scores[0], same, {1e-3, 1e-2}}, {scores[1], same, {1e-3, 1e-2}}};
    const std::size_t count = 1 + roc[0].size();
    const auto figures = [&](int model, std::span<const std::uint32_t> weights, std::span<double> out) {
        out[0] = weighted_fold_share(right[model], {}, fold, folds, weights);
        roc[model](weights, out.subspan(1));
    };
    std::vector<double> first(count), second(count);
    const std::vector<std::uint32_t> once(a.size(), 1);
    figures(0, once, first);
    figures(1, once, second);
    const std::vector<double> differences =
        bootstrap_rounds(Resampling::items(a.size()), count,
                         [&](std::span<const std::uint32_t> weights, std::span<double> out) {
                             std::vector<double> other(count);
                             figures(0, weights, out);
                             figures(1, weights, other);
                             for (std::size_t k = 0; k < count; ++k) out[k] -= other[k];
                         },
                         {.rounds = rounds});
    const char* names[] = {"accuracy", "TAR@FAR=1e-3", "TAR@FAR=1e-2", "AUC", "EER"};
    for (std::size_t k = 0; k < count; ++k)
        add(r, names[k], first[k], second[k], percentile_interval(differences, count, k),
            k == 0 ? m.p : bootstrap_p(differences, count, k), k == 0 ? "McNemar" : "bootstrap");
}

void compare_queries(ProtocolReport& r, const QueryResults& a, const QueryResults& b, int rounds) {
    BF_CHECK_DATA(a.measures == b.measures, "significance", "the two files have other columns; hint: the same --k");
    BF_CHECK_DATA(a.query.size() == b.query.size(), "significance", "different queries; got ", a.query.size(), " and ",
                  b.query.size());
    for (std::size_t i = 0; i < a.query.size(); ++i)
        BF_CHECK_DATA(a.query[i] == b.query[i] && a.label[i] == b.label[i], "significance",
                      "different queries, the first in line ", i + 2, ": ", a.query[i], " against ", b.query[i],
                      "; hint: both must be reports of the same set");
    r.protocol = "paired test of two retrievals";
    r.rules = {
        "Recall@K: McNemar's exact test of the queries' hits, two-sided",
        concat("R-precision, MAP@R: permutation test, the two models' values of a query exchanged at random, ", rounds,
               " exchanges, two-sided"),
        concat("intervals of A - B: 95 %, percentile bootstrap over classes with their queries, ", rounds, " rounds")};
    r.facts.emplace_back("queries", std::to_string(a.query.size()));
    r.facts.emplace_back("classes", std::to_string(std::set(a.label.begin(), a.label.end()).size()));
    const Resampling classes = Resampling::clusters(a.label);
    const std::vector<std::uint32_t> once(a.query.size(), 1);
    for (std::size_t k = 0; k < a.measures.size(); ++k) {
        std::vector<double> first, second, difference;
        std::vector<char> hit[2];
        for (std::size_t q = 0; q < a.query.size(); ++q) {
            first.push_back(a.values[q][k]);
            second.push_back(b.values[q][k]);
            difference.push_back(first[q] - second[q]);
            hit[0].push_back(first[q] > 0);
            hit[1].push_back(second[q] > 0);
        }
        const bool recall = a.measures[k].starts_with("recall@");
        const Interval interval = bootstrap(classes, 1,
                                            [&](std::span<const std::uint32_t> weights, std::span<double> out) {
                                                out[0] = weighted_mean(difference, weights);
                                            },
                                            {.rounds = rounds})[0];
        add(r, a.measures[k], weighted_mean(first, once), weighted_mean(second, once), interval,
            recall ? mcnemar(hit[0], hit[1]).p : permutation_p(difference, rounds), recall ? "McNemar" : "permutation");
    }
}

}  // namespace

int run_significance(const SignificanceArguments& a) {
    if (!a.out.empty()) check_output_folder(a.out);
    const ScoreFile first = read_score_file(a.first), second = read_score_file(a.second);
    BF_CHECK_DATA(first.retrieval == second.retrieval, "significance", a.first, " and ", a.second,
                  " are of two kinds; want two of scores.csv or two of queries.csv");
    ProtocolReport r;
    r.facts = {{"A", a.first}, {"B", a.second}};
    r.tables.push_back({"tests", {"figure", "A", "B", "A-B", "low", "high", "p", "test"}, {}});
    if (first.retrieval)
        compare_queries(r, first.queries, second.queries, a.rounds);
    else
        compare_pairs(r, first.pairs, second.pairs, a.rounds);
    std::fputs(a.json ? r.json().c_str() : r.text().c_str(), stdout);
    if (!a.out.empty()) r.write(a.out);
    return 0;
}

}  // namespace bf::program

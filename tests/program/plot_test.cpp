// bf plot, and the event files of bf train.
#include <algorithm>
#include <map>

#include "bf/io/event_file.hpp"
#include "bf/io/npy.hpp"
#include "program.hpp"

namespace {

using Values = std::map<std::pair<std::string, std::int64_t>, float>;  ///< by tag and step

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}
/// Points of the n-th line of a picture.
std::size_t points(const std::string& svg, std::size_t n) {
    std::size_t at = 0;
    for (std::size_t i = 0; i <= n; ++i) at = svg.find("points=\"", at) + 8;
    return count(svg.substr(at, svg.find('"', at) - at), ",");
}

/// The scalars of a folder of event files as a reader keeps them that forgets what a restart says.
Values scalars(const fs::path& folder, const std::function<std::string(const fs::path&)>& read) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    Values values;
    for (const fs::path& file : files) {
        const std::string bytes = read(file);
        for (std::size_t at = 0; at < bytes.size();) {
            std::uint64_t size = 0;
            std::memcpy(&size, bytes.data() + at, 8);
            const std::string data = bytes.substr(at + 12, size);
            EXPECT_EQ(bytes.substr(at, size + 16), bf::tf_record(data));
            at += size + 16;
            const bf::MemorySource source(std::as_bytes(std::span(data)), "event");
            std::int64_t step = 0;
            std::vector<std::pair<std::string, float>> found;
            bool restart = false;
            bf::ProtoReader event(source);
            while (const auto f = event.next()) {
                if (f->number == 2) step = event.integer(*f);
                restart |= f->number == 7;
                if (f->number != 5) continue;
                bf::ProtoReader summary = event.message(*f);
                while (const auto v = summary.next()) {
                    bf::ProtoReader value = summary.message(*v);
                    const auto tag = value.next(), number = value.next();
                    found.emplace_back(value.text(*tag, 100), value.f32(*number));
                }
            }
            if (restart) std::erase_if(values, [step](const auto& v) { return v.first.second >= step; });
            for (const auto& [tag, value] : found) values[{tag, step}] = value;
        }
    }
    return values;
}

TEST_F(Program, EventsAreTheNumbersOfTheMetricsAlsoAfterAResume) {
    const fs::path out = root / "r";
    const auto reading = [this](const fs::path& p) { return read(p); };
    const auto expect_equal = [&] {
        Values want;
        for (const bf::Json& r : bf::read_metrics(out / "metrics.jsonl")) {
            const std::string kind = r.string_or("kind", "");
            for (const auto& [key, v] : r.object)
                if (v.is(bf::Json::Kind::number) && key != "step")
                    want[{(kind == "step"   ? "train"
                           : kind == "eval" ? "v"
                                            : kind) +
                              "/" + key,
                          static_cast<std::int64_t>(r.number_or("step", -1))}] = static_cast<float>(v.number);
        }
        EXPECT_GT(want.size(), 30u);
        EXPECT_EQ(scalars(out / "events", reading), want);
    };
    ASSERT_EQ(run(train("--quiet --set num_step=6 --set tensorboard=true --output " + out.string())).code, 0);
    expect_equal();
    // the evaluation at the end stands behind the checkpoint of that step: it is taken back
    ASSERT_EQ(run("train --quiet --set num_step=14 --resume " + out.string()).code, 0);
    expect_equal();
    fs::remove_all(out / "events");  // from here on there are events of the whole run again
    ASSERT_EQ(run("train --quiet --set num_step=20 --resume " + out.string()).code, 0);
    expect_equal();

    // and the run is drawn
    Outcome o = run("plot " + out.string());
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "train/loss, train/lr, queue/cos_compensated, v/accuracy")) << o.output;
    std::string svg = read(out / "plot.svg");
    EXPECT_EQ(count(svg, "<svg"), 5u);
    EXPECT_EQ(count(svg, "</svg>"), 5u);
    EXPECT_EQ(points(svg, 0), 7u);  // each fourth step, and the last of each part: 4, 6, 8, 12, 14, 16, 20
    fs::create_directories(root / "other");
    fs::copy_file(out / "metrics.jsonl", root / "other/metrics.jsonl");
    const std::string both = out.string() + " " + (root / "other").string() + " --out " + (root / "b.svg").string();
    EXPECT_EQ(run("plot " + both + " --keys loss,v/auc --smooth 3").code, 0);
    svg = read(root / "b.svg");
    for (const char* part : {">train/loss<", ">v/auc<", ">r<", ">other<", "opacity=\"0.25\""})
        EXPECT_TRUE(has(svg, part)) << part;
    EXPECT_EQ(count(svg, "<polyline"), 8u);  // two keys, two runs, each as it is and smoothed
    o = run("plot " + out.string() + " --keys los");
    EXPECT_EQ(o.code, 2);
    EXPECT_TRUE(has(o.output, "did you mean loss") && has(o.output, "train/grad_norm")) << o.output;
    EXPECT_EQ(run("plot " + out.string() + " --out x.png").code, 2);
    EXPECT_EQ(run("plot " + out.string() + " --distances").code, 2);
}

TEST_F(Program, DriftOfTheQueueIsRecordedAndDrawn) {
    const fs::path out = root / "r";
    ASSERT_EQ(
        run(train("--quiet --set measure_classifier=true --set broadface.queue=40 --output " + out.string())).code, 0);
    std::size_t queues = 0, classifiers = 0;
    for (const bf::Json& r : bf::read_metrics(out / "metrics.jsonl")) {
        if (r.string_or("kind", "") == "classifier") {
            ++classifiers;
            EXPECT_EQ(r.number_or("images", 0), 72);
            EXPECT_GE(r.number_or("excess_loss", -1), 0);
            EXPECT_NEAR(r.number_or("loss", 0) - r.number_or("least_loss", 0), r.number_or("excess_loss", -1), 1e-9);
            EXPECT_GT(r.number_or("turning_norm", 0), 0);
        }
        if (r.string_or("kind", "") != "queue") continue;
        ++queues;
        EXPECT_EQ(r.number_or("drift_rows", 0), 40);
        EXPECT_LE(r.number_or("distinct_batch", 0), 12);  // two micro-batches of 8, 12 people
        EXPECT_GE(r.number_or("distinct", 0), r.number_or("distinct_batch", 100));
        // 40 rows of 16 a step: ages 1 to 3
        for (const char* key : {"age_mean", "age_rows", "error_plain", "error_compensated", "cos_plain_by_age",
                                "cos_compensated_by_age", "age_edges"}) {
            ASSERT_TRUE(r.find(key)) << key;
            EXPECT_EQ(r.find(key)->array.size(), std::string(key) == "age_edges" ? 4u : 3u) << key;
        }
        const auto& error = r.find("error_plain")->array;
        EXPECT_GT(error[0].number, 0);
        EXPECT_LT(error[0].number, error[2].number);  // older rows are farther away
        EXPECT_EQ(r.find("age_rows")->array[0].number, 16);
        EXPECT_EQ(r.find("age_rows")->array[2].number, 8);
        EXPECT_EQ(r.find("age_mean")->array[1].number, 2);
    }
    EXPECT_EQ(queues, 2u);
    EXPECT_EQ(classifiers, 1u);
    const std::string page = read(out / "report.html");
    for (const char* part : {"Error of queue rows by age (step 24)", "Error of queue rows, mean over ages",
                             "Identities that the classifier sees", "The classifier on all training images"})
        EXPECT_TRUE(has(page, part)) << part;

    Outcome o = run("plot " + out.string() + " --drift");
    EXPECT_EQ(o.code, 0) << o.output;
    std::string svg = read(out / "plot.svg");
    EXPECT_EQ(count(svg, "<svg"), 5u);
    EXPECT_EQ(count(svg, "<polyline"), 8u);  // four charts of two lines
    EXPECT_EQ(points(svg, 0), 3u);
    EXPECT_EQ(points(svg, 4), 2u);  // steps 12 and 24
    for (const char* part : {">compensated<", ">as stored<", ">batch and queue<", ">batch alone<", "(step 24)"})
        EXPECT_TRUE(has(svg, part)) << part;
    o = run("plot " + out.string() + " --drift --steps 12,24 --log-y");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_EQ(count(read(out / "plot.svg"), "<svg"), 7u);
    o = run("plot " + out.string() + " --drift --steps 13");
    EXPECT_EQ(o.code, 2);
    EXPECT_TRUE(has(o.output, "there are 12, 24")) << o.output;
    EXPECT_EQ(run("plot " + out.string() + " --steps 12").code, 2);
    EXPECT_EQ(run("plot " + out.string() + " --drift --keys loss").code, 2);

    const fs::path off = root / "off";
    ASSERT_EQ(run(train("--quiet --set broadface.drift_rows=0 --set num_step=6 --output " + off.string())).code, 0);
    EXPECT_FALSE(has(read(off / "metrics.jsonl"), "error_plain"));
    o = run("plot " + off.string() + " --drift");
    EXPECT_EQ(o.code, 3);
    EXPECT_TRUE(has(o.output, "broadface.drift_rows above 0")) << o.output;
}

TEST_F(Program, PlotDrawsScoresAndCurves) {
    // four pairs of each kind; one of the same people scores below two of different people: AUC 14/16
    std::ofstream(root / "s.csv") << "label,score\n1,0.9\n1,0.8\n0,0.1\n0,0.2\n1,0.7\n0,0.3\n0,0.5\n1,0.25\n";
    const bf::Tensor rows =
        bf::Tensor::from<double>({0.9, 1, 0.8, 1, 0.1, 0, 0.2, 0, 0.7, 1, 0.3, 0, 0.5, 0, 0.25, 1}, {8, 2});
    bf::save_npy(root / "n.npy", rows);
    std::ofstream far_apart(root / "d.csv");
    for (int i = 0; i < 8; ++i)
        far_apart << -rows.data<double>()[2 * i] << "," << rows.data<double>()[2 * i + 1] << "\n";
    far_apart.close();
    std::ofstream wide(root / "w.csv");  // as bf eval writes them
    wide << "score,same,fold,accepted,first,second\n";
    for (int i = 0; i < 8; ++i)
        wide << rows.data<double>()[2 * i] << "," << rows.data<double>()[2 * i + 1] << ",1,1,\"a, b\",c\n";
    wide.close();
    for (const char* input : {"s.csv", "n.npy", "w.csv", "d.csv --distances"}) {
        const Outcome o = run("plot " + (root / input).string() + " --out " + (root / "x.svg").string());
        EXPECT_EQ(o.code, 0) << o.output;
        EXPECT_TRUE(has(o.output, "8 pairs, AUC 0.87500, EER 0.2500")) << o.output;
        const std::string svg = read(root / "x.svg");
        for (const char* part : {">ROC<", ">DET<", ">Scores<", ">same<", ">different<"}) EXPECT_TRUE(has(svg, part));
        EXPECT_EQ(points(svg, 0), 4u);  // FAR 1/4, 2/4, 3/4 and 1
        EXPECT_EQ(points(svg, 2), 122u);
    }
    std::ofstream(root / "c.csv") << "series,FAR,TAR\n\"a, b\",0.0001,0.5\n\"a, b\",1,1\nz,0.001,0.25\nz,1,1\n";
    const Outcome o = run("plot " + (root / "c.csv").string());
    EXPECT_EQ(o.code, 0) << o.output;
    const std::string svg = read(root / "c.plot.svg");
    for (const char* part : {">a, b<", ">z<", ">FAR<", ">TAR<", ">0.01<"}) EXPECT_TRUE(has(svg, part)) << part;
    EXPECT_EQ(run("plot " + (root / "c.csv").string() + " --keys z").code, 0);
    EXPECT_EQ(count(read(root / "c.plot.svg"), "<polyline"), 1u);
    EXPECT_EQ(run("plot " + (root / "c.csv").string() + " --keys y").code, 2);
    EXPECT_EQ(run("plot " + (root / "c.csv").string() + " " + (root / "s.csv").string()).code, 2);

    const auto expect = [&](const std::string& name, const std::string& content, const char* part) {
        if (!content.empty()) std::ofstream(root / name) << content;
        const Outcome bad = run("plot " + (root / name).string());
        EXPECT_EQ(bad.code, 3) << bad.output;
        EXPECT_TRUE(has(bad.output, part)) << bad.output;
    };
    expect("none.csv", "", "is not there");
    expect("tiny.toml", "", "ending; got '.toml'");
    expect("a.csv", "0.5,1\n0.25,2\n", "a.csv:2: label; got 2");
    expect("b.csv", "0.5,1\n0.25,1\n", "pairs of one kind alone");
    expect("e.csv", "\n", "holds no points");
    expect("f.csv", "figure,value,low,high\nx,1,,\n", "got 4 columns");
    expect("j.csv", "score,same,fold\n0.5,1\n", "j.csv:2");
    expect("g.csv", "series,x,y\na,1\n", "g.csv:2");
    expect("h.jsonl", "nonsense\n", "holds no number");
    fs::create_directories(root / "empty");
    expect("empty", "", "is no run");
}

}  // namespace

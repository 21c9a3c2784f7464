// Heads that are more than a margin as the program knows them: their keys, and a run that goes on.
#include <gtest/gtest.h>

#include "config_toml.hpp"
#include "model.hpp"
#include "program.hpp"

namespace {

using bf::HeadKind;
using bf::MarginKind;
using bf::RunConfig;

RunConfig with_loss(const std::string& loss, const std::string& more = "") {
    return bf::program::parse_config("loss = '" + loss + "'\n" + more, "t");
}

TEST(HeadKeys, DefaultsAreThePublishedOnes) {
    using bf::program::head_of;
    using bf::program::margin_of;
    using List = std::vector<double>;
    const RunConfig ada = with_loss("adaface"), arc = with_loss("elasticface_arc"), cos = with_loss("elasticface_cos"),
                    mag = with_loss("magface");
    EXPECT_EQ(ada.margin_list, (List{1, 0, 0.4}));
    EXPECT_EQ(arc.margin_list, (List{1, 0.5, 0}));
    EXPECT_EQ(cos.margin_list, (List{1, 0, 0.35}));
    EXPECT_EQ(mag.margin_list, (List{1, 0, 0}));
    EXPECT_EQ(margin_of(ada).kind, MarginKind::adaface);
    EXPECT_EQ(margin_of(ada).m3, 0.4);
    EXPECT_EQ(head_of(ada).kind, HeadKind::adaface);
    EXPECT_EQ(head_of(ada).h, 0.333);
    EXPECT_EQ(head_of(ada).t_alpha, 0.01);
    EXPECT_EQ(margin_of(arc).kind, MarginKind::arcface);
    EXPECT_EQ(margin_of(arc).m2, 0.5);
    EXPECT_EQ(margin_of(cos).kind, MarginKind::cosface);
    EXPECT_EQ(margin_of(cos).m3, 0.35);
    for (const RunConfig* c : {&arc, &cos}) {
        EXPECT_EQ(head_of(*c).kind, HeadKind::elasticface);
        EXPECT_EQ(head_of(*c).sigma, 0.05);
        EXPECT_EQ(head_of(*c).seed, 2048u);
    }
    const bf::HeadRule m = head_of(mag);
    EXPECT_EQ(margin_of(mag).kind, MarginKind::arcface);
    EXPECT_TRUE(margin_of(mag).easy);
    EXPECT_EQ(m.kind, HeadKind::magface);
    EXPECT_EQ((List{m.l_a, m.u_a, m.l_m, m.u_m, m.lambda_g}), (List{10, 110, 0.45, 0.8, 35}));
    EXPECT_FALSE(m.detached);
    EXPECT_EQ(head_of(with_loss("arcface")).kind, HeadKind::fixed);
    EXPECT_EQ(head_of(with_loss("arcface")).centers, 1);
    const RunConfig curricular = with_loss("curricularface"), centers = with_loss("subcenter_arcface");
    EXPECT_EQ(head_of(curricular).kind, HeadKind::curricularface);
    EXPECT_EQ(margin_of(curricular).m2, 0.5);
    EXPECT_EQ(head_of(centers).kind, HeadKind::fixed);
    EXPECT_EQ(head_of(centers).centers, 3);
    EXPECT_EQ(margin_of(centers).kind, MarginKind::arcface);
    EXPECT_FALSE(margin_of(with_loss("arcface")).easy);
}

TEST(HeadKeys, AreReadWrittenAndChecked) {
    const RunConfig c = with_loss("magface", "[head]\nl_a = 5\nu_a = 50\neasy_margin = false\ndetached = true\n");
    EXPECT_EQ(c.head.l_a, 5);
    EXPECT_FALSE(bf::program::margin_of(c).easy);
    EXPECT_TRUE(bf::program::head_of(c).detached);
    EXPECT_TRUE(bf::program::changed_keys(c, bf::program::parse_config(bf::program::to_toml(c), "again")).empty());
    EXPECT_TRUE(has(bf::program::describe_keys(), "head.t_alpha"));
    for (const auto& [loss, more] :
         std::vector<std::pair<std::string, std::string>>{{"adaface", "margin_list = [1, 0.5, 0]"},
                                                          {"elasticface_arc", "margin_list = [1, 0, 0.4]"},
                                                          {"elasticface_cos", "margin_list = [1, 0.5, 0]"},
                                                          {"magface", "margin_list = [1, 0.5, 0]"},
                                                          {"magface", "[head]\nl_a = 120"},
                                                          {"subcenter_arcface", "memory = 'xbm'"},
                                                          {"subcenter_arcface", "measure_classifier = true"},
                                                          {"adaface", "measure_classifier = true"},
                                                          {"curricularface", "margin_list = [1, 0, 0.4]"},
                                                          {"adaface", "[head]\nt_alfa = 0.1"}})
        EXPECT_THROW(with_loss(loss, more), bf::Error) << loss << " " << more;
}

TEST_F(Program, RunsWithEachHeadResumeBitForBit) {
    for (const char* name :
         {"adaface", "elasticface_arc", "elasticface_cos", "magface", "curricularface", "subcenter_arcface"}) {
        const std::string loss = name;
        const bool arc = loss == "elasticface_arc" || loss == "curricularface" || loss == "subcenter_arcface",
                   mag = loss == "magface";
        const std::string own = " --quiet --set loss=" + loss +
                                " --set head.l_a=1 --set head.u_a=10 --set margin_list=" +
                                (arc   ? "[1,0.2,0]"
                                 : mag ? "[1,0,0]"
                                       : "[1,0,0.2]") +
                                " --output ";
        const fs::path whole = root / (loss + "_whole"), cut = root / (loss + "_cut");
        Outcome o = run(train(own + whole.string() + " --set num_step=12"));
        ASSERT_EQ(o.code, 0) << o.output;
        // cut at step 6, where a checkpoint stands: the newest one goes
        ASSERT_EQ(run(train(own + cut.string() + " --set num_step=12")).code, 0);
        fs::path newest;
        for (const auto& file : fs::directory_iterator(cut / "checkpoints"))
            if (newest.empty() || file.path().filename() > newest.filename()) newest = file.path();
        fs::remove(newest);
        o = run("train --quiet --resume " + cut.string());
        ASSERT_EQ(o.code, 0) << o.output;
        expect_same_run(whole, cut);
        const auto saved = bf::CheckpointFolder(cut / "checkpoints").load_latest();
        ASSERT_TRUE(saved);
        EXPECT_EQ(saved->content.tensors.count("head.norms"), loss == "adaface" ? 1u : 0u);
        EXPECT_EQ(saved->content.tensors.count("head.t"), loss == "curricularface" ? 1u : 0u);
        EXPECT_EQ(saved->content.tensors.at("classifier.weight").dim(0), loss == "subcenter_arcface" ? 36 : 12);
        EXPECT_EQ(saved->content.tensors.count("head.calls"), loss.rfind("elastic", 0) == 0 ? 1u : 0u);
    }
}

}  // namespace

// The networks beside IResNet in the program: trained, recorded in a model file, read back.
#include "config_toml.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "program.hpp"

namespace {

using bf::program::load_model;

TEST_F(Program, AnyNetworkOfTheRegistryTrainsAndItsFileSaysWhatItIs) {
    const fs::path out = root / "r";
    const Outcome o =
        run(train("--quiet --set network=mbf --set num_step=2 --set activation_checkpointing=true "
                  "--output " +
                  out.string()));
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::program::Model model = load_model(out);
    EXPECT_EQ(model.network, "mobilefacenet");
    EXPECT_EQ(model.image_size, 16);
    EXPECT_EQ(model.input, bf::InputFormat{});
    const bf::RunConfig config = bf::program::load_config(out / "config.toml");
    const auto again = bf::program::verify(*model.net, bf::program::open_validation(config.val.at(0), model.image_size),
                                           model.image_size, model.input);
    double x_norm = 0;  // of the run's own evaluation
    for (const bf::Json& r : bf::read_metrics(out / "metrics.jsonl")) x_norm = r.number_or("xnorm", x_norm);
    EXPECT_EQ(again.x_norm, x_norm);

    const auto file = root / "m.safetensors";
    const auto loaded = [&](std::map<std::string, std::string> metadata, const bf::StateDict& state) {
        bf::save_safetensors(file, state, metadata);
        return load_model(file);
    };
    const auto fails = [&](std::map<std::string, std::string> metadata, const bf::StateDict& state, const char* part) {
        try {
            loaded(metadata, state);
            ADD_FAILURE() << "no error; want " << part;
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data);
            EXPECT_TRUE(has(e.what(), part)) << e.what();
        }
    };
    std::map<std::string, std::string> facts{
        {"bf.network", "mbf"}, {"bf.embedding_size", "16"}, {"bf.image_size", "16"}};
    bf::StateDict state = model.net->state();
    EXPECT_EQ(loaded(facts, state).input, bf::InputFormat{});
    bf::InputFormat other = bf::imagenet_input();
    other.bgr = true;
    facts["bf.input"] = bf::to_text(other);
    EXPECT_EQ(loaded(facts, state).input, other);
    EXPECT_EQ(loaded(facts, state).network, "mobilefacenet");
    facts["bf.input"] = "CMYK";
    fails(facts, state, "input format; got CMYK");
    facts.erase("bf.input");
    facts["bf.image_size"] = "32";
    fails(facts, state, "features.layers.0.layers.0.weight");  // the kernel over the last map
    state.erase("features.layers.2.weight");
    fails(facts, state, "features.layers.2.weight; got none, want [16, 512]");
}

TEST_F(Program, ARunStartsFromTheWeightsOfAnother) {
    ASSERT_EQ(run(train("--quiet --set num_step=2 --output " + (root / "first").string())).code, 0);
    const std::string from = " --set pretrained=" + (root / "first").string() + " --set num_step=2 --set lr=1e-9";
    const Outcome same = run(train("--output " + (root / "same").string() + from));
    ASSERT_EQ(same.code, 0) << same.output;
    EXPECT_TRUE(has(same.output, "started from")) << same.output;
    EXPECT_FALSE(has(same.output, "drawn anew")) << same.output;
    const bf::StateDict before = load_model(root / "first").net->state(),
                        after = load_model(root / "same").net->state();
    for (const auto& [name, t] : before) {
        if (name.find("running") != std::string::npos) continue;  // statistics move with any batch
        for (std::int64_t i = 0; i < t.numel(); ++i)
            ASSERT_NEAR(t.data<float>()[i], after.at(name).data<float>()[i], 1e-5) << name;
    }
    // another size of the embedding: the last layers are drawn, the others kept
    const Outcome head = run(train("--set embedding_size=24 --output " + (root / "head").string() + from));
    ASSERT_EQ(head.code, 0) << head.output;
    EXPECT_TRUE(has(head.output, "drawn anew:")) << head.output;
    const bf::StateDict other = load_model(root / "head").net->state();
    EXPECT_NEAR(other.begin()->second.data<float>()[0], before.at(other.begin()->first).data<float>()[0], 1e-5);
    const Outcome wrong = run(train("--quiet --set network=mbf --output " + (root / "wrong").string() + from));
    EXPECT_EQ(wrong.code, 2) << wrong.output;
    EXPECT_TRUE(has(wrong.output, "pretrained")) << wrong.output;
}

TEST(NetworkConfig, SizeAndInputFollowTheNetwork) {
    const auto config = [](const std::string& text) { return bf::program::parse_config(text, "c.toml"); };
    EXPECT_EQ(config("").image_size, 112);
    EXPECT_EQ(config("network = \"mbf\"").network, "mobilefacenet");
    const bf::RunConfig c = config("network = \"resnet50\"");
    EXPECT_EQ(c.image_size, 224);
    EXPECT_EQ(config("network = \"resnet50\"\nimage_size = 64").image_size, 64);
    EXPECT_THROW(config("network = \"resnet50\"\nimage_size = 16"), bf::Error);
    EXPECT_THROW(config("network = \"resnet\""), bf::Error);
    auto facts = bf::program::model_metadata(c);
    EXPECT_EQ(facts["bf.network"], "resnet50");
    EXPECT_EQ(bf::parse_input_format(facts["bf.input"], "m"), bf::imagenet_input());
}

}  // namespace

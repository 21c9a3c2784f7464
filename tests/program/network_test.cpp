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

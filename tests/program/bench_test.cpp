// bf bench.
#include "program.hpp"

namespace {

TEST_F(Program, BenchMeasuresAConfiguration) {
    const Outcome o = run("bench " + (root / "tiny.toml").string() + " --steps 2 --warmup 1 --profile --json");
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::Json json = bf::parse_json(o.output, "bench");
    EXPECT_EQ(json.string_or("network", ""), "iresnet_small");
    EXPECT_EQ(json.string_or("precision", ""), "f32");
    EXPECT_EQ(json.number_or("identities", 0), 12);
    EXPECT_EQ(json.number_or("queue", 0), 20);
    EXPECT_GT(json.number_or("gemm_gflops", 0), 0);
    EXPECT_GT(json.number_or("copy_gb_per_s", 0), 0);
    const bf::Json* rows = json.find("rows");
    ASSERT_TRUE(rows && rows->array.size() == 2);
    for (const bf::Json& row : rows->array) {
        const double ms = row.number_or("ms", 0);
        EXPECT_GT(ms, 0);
        EXPECT_NEAR(row.number_or("images_per_s", 0), 8e3 / ms, 1e-6 * 8e3 / ms);
        EXPECT_GT(row.number_or("peak_mib", 0), 0);
        const bf::Json* kernels = row.find("kernels");
        ASSERT_TRUE(kernels);
        double all = 0, convolutions = 0;
        for (const bf::Json& k : kernels->array) {
            all += k.number_or("ms", 0);
            convolutions += k.string_or("name", "").rfind("conv2d", 0) == 0;
        }
        EXPECT_NEAR(all, row.number_or("profiled_ms", 0), 0.01 * all);
        EXPECT_GE(convolutions, 8);
    }
    EXPECT_EQ(rows->array[0].string_or("mode", ""), "train");
    EXPECT_EQ(rows->array[1].string_or("mode", ""), "inference");
    // a step does three passes of what inference does once
    EXPECT_NEAR(rows->array[0].number_or("gflops", 0) / rows->array[0].number_or("images_per_s", 1),
                3 * rows->array[1].number_or("gflops", 0) / rows->array[1].number_or("images_per_s", 1), 1e-6);
    EXPECT_FALSE(fs::exists(root / "runs"));  // it leaves nothing behind
}

TEST_F(Program, BenchTellsAndRefuses) {
    const std::string tiny = "bench " + (root / "tiny.toml").string();
    const Outcome o = run(tiny + " --mode inference --steps 1 --warmup 0 --batch 2 --queue 0 --identities 5 --profile");
    EXPECT_EQ(o.code, 0);
    for (const char* part : {"iresnet_small, cpu, f32, batch 2 of 16 x 16, 5 identities, queue 0", "images/s",
                             "between kernels", "of memory"})
        EXPECT_NE(o.output.find(part), std::string::npos) << part << " in " << o.output;
    EXPECT_EQ(run(tiny + " --mode inference --steps 1 --warmup 0 --batch 1").code, 0);
    EXPECT_EQ(run("bench none.toml").code, 2);
    EXPECT_EQ(run(tiny + " --set batch=3").code, 2);
    EXPECT_EQ(run(tiny + " --mode both").code, 2);
    EXPECT_EQ(run("bench --network r51").code, 2);
}

}  // namespace

// What cuDNN proposes for the convolutions of an IResNet-100 on a GPU that is not here: its heuristics and its plans
// work from a description of the device. Needs the library, no GPU; kernels are not run.
#if defined(BF_HAVE_CUDA) && !defined(BF_EMULATED_DEVICE)
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "cuda/dnn_graph.hpp"

namespace {

using namespace bf::cuda;
using bf::ConvAlgorithm;
using bf::ConvGeometry;
using bf::DType;

/// Multiprocessors, shared memory a block and a multiprocessor, L2 and the rest as NVIDIA publishes them.
std::string properties(const char* name, int version, int processors, int shared, int l2, int clock, int memory_clock) {
    return bf::concat(R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)",
                      R"("multiProcessorCount":)", processors, R"(,"warpSize":32,"maxSharedMemoryPerBlock":49152,)",
                      R"("maxSharedMemoryPerBlockOptin":)", shared, R"(,"reservedSharedMemoryPerBlock":1024,)",
                      R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)",
                      R"("maxThreadsPerSM":2048,"smClockRateKHz":)", clock, R"(,"memClockRateKHz":)", memory_clock,
                      R"(,"l2CacheSize":)", l2, R"(,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,)",
                      R"("deviceVer":)", version, R"(,"driverVer":13000,"totalGlobalMem":85028765696,)",
                      R"("deviceName":")", name, R"(","cudaDeviceId":0})");
}
std::string hopper() { return properties("NVIDIA H100 80GB HBM3", 900, 132, 232448, 52428800, 1980000, 2619000); }
std::string ampere() { return properties("NVIDIA A100-SXM4-80GB", 800, 108, 166912, 41943040, 1410000, 1593000); }

/// Each convolution of an IResNet-100 on 112 x 112 faces, once.
std::vector<ConvGeometry> iresnet(std::int64_t batch) {
    std::vector<ConvGeometry> all{{batch, 3, 112, 112, 64, 3, 3, 1, 1, 1}};
    std::int64_t in = 64, side = 112;
    for (const std::int64_t out : {64, 128, 256, 512}) {
        all.push_back({batch, in, side, side, out, 3, 3, 1, 1, 1});
        all.push_back({batch, out, side, side, out, 3, 3, 2, 1, 1});
        all.push_back({batch, in, side, side, out, 1, 1, 2, 0, 1});
        side /= 2;
        all.push_back({batch, out, side, side, out, 3, 3, 1, 1, 1});
        in = out;
    }
    return all;
}

constexpr ConvSettings settings{
    .tf32 = true, .deterministic = true, .autotune = false, .workspace_limit = std::size_t{1} << 30};

PlanKey key_of(ConvPass pass, const ConvGeometry& g, DType dtype, const ConvSettings& s) {
    return plan_key(pass, padded(g, dtype, s.tf32), dtype, ConvAlgorithm::automatic, s);
}

TEST(DnnPlan, EveryConvolutionOfANetworkRunsDeterministicallyOnTensorCores) {
    for (const std::string& json : {hopper(), ampere()}) {
        const Descriptor device = device_descriptor(json);
        for (const std::int64_t batch : {1, 128, 512})
            for (const ConvGeometry& g : iresnet(batch))
                for (const DType dtype : {DType::bf16, DType::f32})
                    for (const ConvPass pass : {ConvPass::forward, ConvPass::dx, ConvPass::dw}) {
                        // f32 images of such a batch fill the GPU, and some engines want copies of them
                        if (batch == 512 && dtype == DType::f32) continue;
                        SCOPED_TRACE(str(pass, g, dtype));
                        const auto plans = plans_on(device, key_of(pass, g, dtype, settings), 1);
                        ASSERT_EQ(plans.size(), 1u);
                        EXPECT_TRUE(plans[0].notes & bit(EngineNote::tensor_core)) << str(plans[0].notes);
                        EXPECT_FALSE(plans[0].notes & bit(EngineNote::nondeterministic)) << str(plans[0].notes);
                        EXPECT_LE(plans[0].workspace, settings.workspace_limit);
                    }
    }
}

/// What padding the three channels of a face to 8 is for: the library would pad in its workspace, at every call.
TEST(DnnPlan, ThePaddedFirstLayerNeedsNoCopyInTheWorkspace) {
    const Descriptor device = device_descriptor(hopper());
    const ConvGeometry first = iresnet(128).front();
    EXPECT_LT(plans_on(device, key_of(ConvPass::forward, first, DType::bf16, settings), 1).at(0).workspace, 4096u);
    const PlanKey bare = plan_key(ConvPass::forward, first, DType::bf16, ConvAlgorithm::automatic, settings);
    EXPECT_GT(plans_on(device, bare, 1).at(0).workspace, std::size_t{8} << 20);
}

TEST(DnnPlan, FullF32LeavesTheTensorCores) {
    const Descriptor device = device_descriptor(hopper());
    ConvSettings full = settings;
    full.tf32 = false;
    for (const ConvGeometry& g : iresnet(128))
        for (const ConvPass pass : {ConvPass::forward, ConvPass::dx, ConvPass::dw}) {
            SCOPED_TRACE(str(pass, g, DType::f32));
            const auto plans = plans_on(device, key_of(pass, g, DType::f32, full), 1);
            ASSERT_EQ(plans.size(), 1u);
            EXPECT_FALSE(plans[0].notes & bit(EngineNote::tensor_core)) << str(plans[0].notes);
        }
}

/// Depthwise convolutions, as MobileFaceNet has them: copies to another layout would cost more than the work.
TEST(DnnPlan, GroupsTakeEnginesWithoutLargeWorkspaces) {
    const Descriptor device = device_descriptor(hopper());
    for (const std::int64_t stride : {1, 2})
        for (const ConvPass pass : {ConvPass::forward, ConvPass::dx}) {
            const ConvGeometry g{128, 64, 56, 56, 64, 3, 3, stride, 1, 64};
            SCOPED_TRACE(str(pass, g, DType::bf16));
            const auto plans = plans_on(device, key_of(pass, g, DType::bf16, settings), 1);
            ASSERT_EQ(plans.size(), 1u);
            EXPECT_LT(plans[0].workspace, std::size_t{8} << 20);
        }
}

TEST(DnnPlan, AutotuningHasSeveralEnginesToChooseFrom) {
    const Descriptor device = device_descriptor(hopper());
    const auto plans =
        plans_on(device, key_of(ConvPass::forward, {128, 64, 56, 56, 128, 3, 3, 1, 1, 1}, DType::bf16, settings), 8);
    EXPECT_EQ(plans.size(), 8u);
    std::set<std::int64_t> engines;
    for (const PlanFacts& p : plans) engines.insert(p.engine);
    EXPECT_GT(engines.size(), 1u);
}

}  // namespace
#endif

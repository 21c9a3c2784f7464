// Heads that set a margin for each row on a device: a graph of the step moves their state as the step does.
#include <cstring>

#include "device.hpp"
#include "heads.hpp"

namespace {

using namespace tiny_run;

class GpuHeadStep : public OnDevice {};

TEST_F(GpuHeadStep, AGraphEqualsStepsBitForBit) {
    const auto data = batches(9);
    for (const Head& h : heads()) {
        HeadRun plain(h, test_device), graph(h, test_device, true);
        for (const bf::TrainBatch& batch : data) {
            const bf::StepReport a = one_step(plain.trainer, on(test_device, batch)),
                                 b = one_step(graph.trainer, on(test_device, batch));
            EXPECT_EQ(a.loss, b.loss) << h.name << " step " << a.step;
            EXPECT_EQ(a.classifier_loss, b.classifier_loss) << h.name << " step " << a.step;
        }
        EXPECT_GT(graph.trainer.graph_launches(), 0u) << h.name << ": " << graph.trainer.graph_note();
        const bf::StateDict want = plain.trainer.state(), got = graph.trainer.state();
        for (const auto& [name, tensor] : want) {
            const bf::Tensor x = tensor.to(bf::cpu_device), y = got.at(name).to(bf::cpu_device);
            EXPECT_EQ(std::memcmp(x.raw(), y.raw(), x.bytes()), 0) << h.name << ": " << name;
        }
    }
}

}  // namespace

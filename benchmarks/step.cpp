// One training step (forward, margin loss, backward, SGD) of a network: time, images/s, effective GFLOP/s, memory.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bf/models/iresnet.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/train/trainer.hpp"

int main(int argc, char** argv) {
    std::string network = "iresnet_small";
    std::int64_t batch = 8, size = 112, identities = 10000, queue = 0;
    int steps = 3;
    bool fused = true;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        const bool value = i + 1 < argc;
        if (arg == "--network" && value)
            network = argv[++i];
        else if (arg == "--batch" && value)
            batch = std::atoll(argv[++i]);
        else if (arg == "--size" && value)
            size = std::atoll(argv[++i]);
        else if (arg == "--identities" && value)
            identities = std::atoll(argv[++i]);
        else if (arg == "--queue" && value)
            queue = std::atoll(argv[++i]);
        else if (arg == "--steps" && value)
            steps = std::atoi(argv[++i]);
        else if (arg == "--plain")
            fused = false;
        else {
            std::printf(
                "usage: bench_step [--network NAME] [--batch N] [--size PIXELS] [--identities K] [--queue ROWS] "
                "[--steps N] [--plain]\n");
            return arg == "--help" ? 0 : 2;
        }
    }
    const auto net = bf::iresnet(network, {.image_size = size, .fused = fused});
    const std::int64_t dim = net->options().embedding_size;
    bf::Init init(3);
    const bf::Var w = bf::Var::leaf(init.normal({identities, dim}, 0.01));
    bf::Sgd sgd({{.parameters = net->parameters(), .weight_decay = 5e-4}, {.parameters = {{"classifier.weight", w}}}});
    bf::BroadFace broad({.queue = queue}, dim);
    bf::Trainer<bf::BroadFace> trainer(
        *net, w, sgd, {.margin = bf::arcface(), .schedule = {.kind = bf::ScheduleKind::constant, .lr = 0.01}}, broad);
    bf::TrainBatch data{
        init.normal({batch, 3, size, size}, 1), bf::Tensor::empty({batch}, {.dtype = bf::DType::i64}), {}};
    for (std::int64_t i = 0; i < batch; ++i) data.labels.data<std::int64_t>()[i] = i * 97 % identities;
    const double flop =
        6.0 * static_cast<double>(bf::multiply_accumulates(net->options())) * static_cast<double>(batch);
    for (int s = 0; s < steps; ++s) {
        const auto start = std::chrono::steady_clock::now();
        const auto report = trainer.step({&data, 1});
        const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::printf(
            "%s, batch %d at %d, K %d, Q %d: step %d  loss %.3f  %.3f s  %.2f images/s  %.0f GFLOP/s  peak %.2f GiB\n",
            network.c_str(), static_cast<int>(batch), static_cast<int>(size), static_cast<int>(identities),
            static_cast<int>(queue), s + 1, report.loss, time, static_cast<double>(batch) / time, 1e-9 * flop / time,
            static_cast<double>(bf::cpu_allocator().stats().peak) / (1 << 30));
        std::fflush(stdout);
    }
}

// Whole training steps as the trainer does them (forward, margin loss with BroadFace's queue, backward, clipping, SGD),
// and inference, over synthetic batches that lie on the device. Queues of several sizes train the same network in
// turns, block by block, so that their overhead over plain training (queue 0) is measured side by side. The peer is
// peers/torch_arcface.py; compare.py makes one table of both.
#include <memory>

#include "bf/base/version.hpp"
#include "bf/core/device_runtime.hpp"
#include "bf/models/iresnet.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/train/trainer.hpp"
#include "measure.hpp"

namespace {

using bench::labels_of;
using bench::random_rows;
using bf::DType;
using bf::Tensor;

struct Setup {
    bf::Device device;
    std::string precision;
    std::int64_t size = 112, dim = 512, identities = 0;
    std::int64_t warmup = 0, steps = 0, block = 1;
    bool graph = false;

    DType compute() const { return precision == "bf16" ? DType::bf16 : DType::f32; }
    std::int64_t blocks() const { return std::max<std::int64_t>(1, (steps + block - 1) / block); }
};

/// n steps over one batch, the next one queued before the values of the last one are there.
void train(bf::Trainer<bf::BroadFace>& trainer, const bf::TrainBatch& batch, std::int64_t n) {
    const std::span<const bf::TrainBatch> one(&batch, 1);
    bf::PendingStep pending = trainer.launch(one);
    for (std::int64_t i = 1; i < n; ++i) {
        bf::PendingStep next = trainer.launch(one);
        trainer.finish(std::move(pending));
        pending = std::move(next);
    }
    trainer.finish(std::move(pending));
}

std::shared_ptr<bf::IResNet> network(const std::string& name, const Setup& s) {
    return bf::iresnet(name,
                       {.embedding_size = s.dim, .image_size = s.size, .compute = s.compute(), .device = s.device});
}
Tensor images_of(std::int64_t batch, const Setup& s) {
    bf::Init init(7);
    return random_rows(init, batch, 3 * s.size * s.size, 1, s.device).reshape({batch, 3, s.size, s.size});
}

/// A network with its classifier and optimizer, as `bf train` makes them.
struct Model {
    Model(const std::string& name, const Setup& s) : net(network(name, s)) {
        bf::Init init(3);
        w = bf::Var::leaf(random_rows(init, s.identities, s.dim, 0.01, s.device));
        // the published recipe: momentum 0.9, everything decayed, the backbone's gradient clipped at norm 5
        sgd = std::make_unique<bf::Sgd>(
            std::vector<bf::ParameterGroup>{{.parameters = net->parameters(), .weight_decay = 5e-4, .clip_norm = 5},
                                            {.parameters = {{"classifier.weight", w}}, .weight_decay = 5e-4}});
    }
    std::shared_ptr<bf::IResNet> net;
    bf::Var w;
    std::unique_ptr<bf::Sgd> sgd;
};

/// A trainer of the model with a full queue.
struct Run {
    Run(Model& model, const Setup& s, std::int64_t queue)
        : broad({.queue = queue}, s.dim, DType::f32, s.device),
          trainer(*model.net, model.w, *model.sgd, options(s), broad) {
        if (queue == 0) return;
        bf::Init init(5);
        broad.push(random_rows(init, queue, s.dim, 1, s.device), labels_of(queue, s.identities, s.device),
                   model.w.value(), 0);
    }
    static bf::TrainerOptions options(const Setup& s) {
        // a step of 0.001: the numbers of a benchmark are random, and must stay finite
        return {.margin = bf::arcface(),
                .schedule = {.kind = bf::ScheduleKind::constant, .lr = 1e-3},
                .want_gradient_norm = true,
                .products = s.compute(),
                .graph = s.graph};
    }
    bf::BroadFace broad;
    bf::Trainer<bf::BroadFace> trainer;
};

struct Measured {
    std::vector<double> ms;  ///< a step, one value a block
    double peak = 0;         ///< bytes
    bool graph = false;      ///< the steps were launched as a graph
};

const bf::DeviceMemory& idle_memory(bf::Device device) {
    const bf::DeviceMemory& memory = bf::device_memory(device);
    memory.synchronize(device.index);
    memory.release_cache(device.index);
    memory.reset_peak(device.index);
    return memory;
}

std::vector<Measured> measure_training(Model& model, const Setup& s, const bf::TrainBatch& batch,
                                       const std::vector<std::int64_t>& queues) {
    std::vector<Measured> all(queues.size());
    std::vector<std::unique_ptr<Run>> runs(queues.size());
    const auto warm = [&](std::size_t i) {
        runs[i] = std::make_unique<Run>(model, s, queues[i]);
        // a graph is captured after some equal steps
        train(runs[i]->trainer, batch, std::max<std::int64_t>(s.graph ? 6 : 1, s.warmup));
    };
    for (std::size_t i = 0; i < queues.size(); ++i) {
        // memory of each alone: it must not hold another queue, nor another's graph
        const bf::DeviceMemory& memory = idle_memory(s.device);
        warm(i);
        memory.reset_peak(s.device.index);
        train(runs[i]->trainer, batch, 1);
        all[i].peak = static_cast<double>(memory.stats(s.device.index).peak);
        if (queues.size() > 1) runs[i].reset();
    }
    for (std::size_t i = 0; i < queues.size(); ++i)
        if (!runs[i]) warm(i);
    for (std::int64_t b = 0; b < s.blocks(); ++b)
        for (std::size_t i = 0; i < queues.size(); ++i)
            all[i].ms.push_back(1e3 / static_cast<double>(s.block) *
                                bench::seconds(s.device, [&] { train(runs[i]->trainer, batch, s.block); }));
    for (std::size_t i = 0; i < queues.size(); ++i) {
        all[i].graph = runs[i]->trainer.graph_launches() > 0;
        if (const std::string& note = runs[i]->trainer.graph_note(); !note.empty())
            std::printf("Q %lld runs without a graph: %s\n", static_cast<long long>(queues[i]), note.c_str());
    }
    return all;
}

Measured measure_inference(bf::IResNet& net, const Setup& s, const Tensor& images) {
    const bf::NoGrad no_grad;
    net.eval();
    const bf::DeviceMemory& memory = idle_memory(s.device);
    const auto encode = [&](std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) net(bf::Var(images));
    };
    encode(std::max<std::int64_t>(1, s.warmup));
    memory.synchronize(s.device.index);
    memory.reset_peak(s.device.index);
    Measured m;
    for (std::int64_t b = 0; b < s.blocks(); ++b)
        m.ms.push_back(1e3 / static_cast<double>(s.block) * bench::seconds(s.device, [&] { encode(s.block); }));
    m.peak = static_cast<double>(memory.stats(s.device.index).peak);
    return m;
}
/// Gives a fresh network running statistics: without them its numbers grow out of range from block to block, and a GPU
/// computes faster on those.
void settle_statistics(bf::IResNet& net, const Setup& s) {
    const bf::NoGrad no_grad;
    const Tensor images = images_of(8, s);
    net.train();
    for (int i = 0; i < 30; ++i) net(bf::Var(images));
}

void run(int argc, char** argv) {
    const bench::Options given(argc, argv,
                               {{"device", "cpu"},
                                {"network", "iresnet_small"},
                                {"batch", "8"},
                                {"queue", "0"},
                                {"identities", "10000"},
                                {"size", "112"},
                                {"dim", "512"},
                                {"precision", ""},
                                {"mode", "train"},
                                {"graph", "off"},
                                {"steps", "3"},
                                {"warmup", "1"},
                                {"block", "1"},
                                {"seconds", "0"},
                                {"json", ""}});
    Setup s{.device = given.device(), .precision = given.text("precision")};
    s.size = given.number("size");
    s.dim = given.number("dim");
    s.identities = given.number("identities");
    s.warmup = given.number("warmup");
    s.steps = given.number("steps");
    s.block = std::max<std::int64_t>(1, given.number("block"));
    s.graph = given.text("graph") == "on";
    if (s.precision.empty()) s.precision = s.device == bf::cpu_device ? "f32" : "bf16";
    BF_CHECK(s.precision == "f32" || s.precision == "tf32" || s.precision == "bf16", "--precision", "got ", s.precision,
             ", want f32, tf32 or bf16");
    const bf::DeviceRuntime& runtime = bf::device_runtime(s.device);
    bf::DeviceSettings settings = runtime.settings(s.device.index);
    settings.tf32 = s.precision != "f32";
    runtime.configure(settings, s.device.index);

    const std::vector<std::int64_t> queues = given.numbers("queue");
    bool trains = false, encodes = false;
    for (const std::string& mode : given.words("mode")) {
        BF_CHECK(mode == "train" || mode == "inference", "--mode", "got ", mode, ", want train or inference");
        (mode == "train" ? trains : encodes) = true;
    }
    bench::Results results(given.text("json"), bench::Fields()
                                                   .put("engine", "bf")
                                                   .put("version", bf::version)
                                                   .put("device", s.device.name())
                                                   .put("precision", s.precision)
                                                   .put("deterministic", settings.deterministic)
                                                   .put("autotune", settings.autotune)
                                                   .put("classes", s.identities)
                                                   .put("dim", s.dim)
                                                   .put("size", s.size));
    std::printf(
        "%s, %s, graph %s, K %lld, D %lld, %lld pixels; medians of %lld blocks of %lld "
        "steps\n%-10s%-14s%6s%7s%10s%11s%10s%9s\n",
        s.device.name().c_str(), s.precision.c_str(), given.text("graph").c_str(), static_cast<long long>(s.identities),
        static_cast<long long>(s.dim), static_cast<long long>(s.size), static_cast<long long>(s.blocks()),
        static_cast<long long>(s.block), "what", "network", "B", "Q", "ms", "images/s", "peak MiB", "over Q 0");
    const double limit = given.real("seconds");
    const auto began = std::chrono::steady_clock::now();
    const auto in_time = [&](const std::string& what, std::int64_t batch) {
        const bool yes =
            limit == 0 || std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() < limit;
        if (!yes) std::printf("%s, B %lld: not started, out of time\n", what.c_str(), static_cast<long long>(batch));
        return yes;
    };
    for (const std::string& name : given.words("network")) {
        double flop = 0;  // of one image's forward pass
        const auto report = [&](const char* what, std::int64_t batch, std::int64_t queue, const Measured& m,
                                double plain, double passes) {
            const double ms = bench::median(m.ms), rate = 1e3 * static_cast<double>(batch) / ms;
            char over[16] = "";
            if (plain > 0 && queue > 0) std::snprintf(over, sizeof over, "%+.1f%%", 100 * (ms / plain - 1));
            std::printf("%-10s%-14s%6lld%7lld%10.2f%11.2f%10.0f%9s  %.0f GFLOP/s\n", what, name.c_str(),
                        static_cast<long long>(batch), static_cast<long long>(queue), ms, rate, bench::mib(m.peak),
                        over, 1e-9 * passes * flop * rate);
            std::fflush(stdout);
            results.add(bench::Fields()
                            .put("what", what)
                            .put("network", name)
                            .put("batch", batch)
                            .put("queue", queue)
                            .put("graph", m.graph)
                            .put("ms", ms)
                            .put("fastest_ms", *std::min_element(m.ms.begin(), m.ms.end()))
                            .put("slowest_ms", *std::max_element(m.ms.begin(), m.ms.end()))
                            .put("images_per_s", rate)
                            .put("peak_mib", bench::mib(m.peak)));
        };
        if (trains) {
            Model model(name, s);
            flop = 2 * static_cast<double>(bf::multiply_accumulates(model.net->options()));
            for (const std::int64_t batch : given.numbers("batch")) {
                if (!in_time("train", batch)) continue;
                const bf::TrainBatch data{images_of(batch, s), labels_of(batch, s.identities, s.device), {}};
                const std::vector<Measured> all = measure_training(model, s, data, queues);
                const auto none = std::find(queues.begin(), queues.end(), 0);
                const double plain =
                    none == queues.end() ? 0 : bench::median(all[static_cast<std::size_t>(none - queues.begin())].ms);
                for (std::size_t i = 0; i < queues.size(); ++i) report("train", batch, queues[i], all[i], plain, 3);
            }
        }
        if (encodes) {
            const std::shared_ptr<bf::IResNet> net = network(name, s);  // alone: no optimizer in its memory
            flop = 2 * static_cast<double>(bf::multiply_accumulates(net->options()));
            settle_statistics(*net, s);
            for (const std::int64_t batch : given.numbers("batch"))
                if (in_time("inference", batch))
                    report("inference", batch, 0, measure_inference(*net, s, images_of(batch, s)), 0, 1);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    return bench::guarded("bench_step", [&] { run(argc, argv); });
}

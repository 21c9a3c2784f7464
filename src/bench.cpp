// bf bench: what a training step and an inference pass of a configuration take on this machine, and where the time
// goes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>

#include "bf/base/version.hpp"
#include "bf/core/device_memory.hpp"
#include "bf/core/parallel.hpp"
#include "bf/io/json.hpp"
#include "bf/kernels/profile.hpp"
#include "bf/train/trainer.hpp"
#include "commands.hpp"
#include "config_toml.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "run_parts.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    const std::size_t half = v.size() / 2;
    return v.size() % 2 ? v[half] : (v[half - 1] + v[half]) / 2;
}

/// What this machine can do at best with the compute threads of this process, measured.
struct MachineRates {
    double gemm_gflops = 0;  ///< of a product of 2048 x 2048 f32 matrices
    double copy_gb = 0;      ///< read and written, 256 MiB to 256 MiB
};
MachineRates machine_rates() {
    MachineRates best;
    constexpr std::int64_t n = 2048;
    Init init(1);
    const Tensor a = init.normal({n, n}, 1), b = init.normal({n, n}, 1), c = Tensor::empty({n, n});
    const Tensor from = Tensor::zeros({std::int64_t{64} << 20}), to = Tensor::zeros(from.shape());
    for (int round = 0; round < 4; ++round) {
        auto start = Clock::now();
        kernels(cpu_device).gemm(context(cpu_device), false, false, 1, a, b, 0, c);
        best.gemm_gflops = std::max(best.gemm_gflops, 2e-9 * n * n * n / since(start));
        start = Clock::now();
        parallel_for(from.numel(), 1 << 20, [&](std::int64_t begin, std::int64_t end) {
            std::memcpy(to.data<float>() + begin, from.data<float>() + begin,
                        static_cast<std::size_t>(end - begin) * sizeof(float));
        });
        best.copy_gb = std::max(best.copy_gb, 2e-9 * static_cast<double>(from.bytes()) / since(start));
    }
    return best;
}

/// Times of the steps of one kind of work.
struct Measured {
    std::string mode;
    std::vector<double> ms;
    double images_per_s = 0, gflops = 0;
    double peak_bytes = 0;
    double profiled_ms = 0;  ///< a step while its kernels were measured; 0: they were not
    std::map<std::string, KernelCost> kernels;
};

/// Runs step() and measures it: `flop` of an image, `batch` images.
template <class Step>
Measured measure(const BenchArguments& a, const std::string& mode, Device device, std::int64_t batch, double flop,
                 Step&& step) {
    const DeviceMemory& memory = device_memory(device);
    const auto wait = [&] { memory.synchronize(device.index); };
    Measured m;
    m.mode = mode;
    const auto began = Clock::now();
    WorkProgress progress(mode + " steps", a.steps + a.warmup);
    for (int i = 0; i < a.warmup; ++i) {
        step();
        wait();
        progress.show(i + 1);
    }
    memory.reset_peak(device.index);
    for (int i = 0; i < a.steps && (i == 0 || a.seconds == 0 || since(began) < a.seconds); ++i) {
        const auto start = Clock::now();
        step();
        wait();
        m.ms.push_back(1e3 * since(start));
        progress.show(a.warmup + i + 1);
    }
    m.peak_bytes = static_cast<double>(memory.stats(device.index).peak);
    m.images_per_s = 1e3 * static_cast<double>(batch) / median(m.ms);
    m.gflops = 1e-9 * flop * m.images_per_s;
    if (a.profile) {
        KernelProfile profile;
        const int rounds = std::clamp<int>(static_cast<int>(m.ms.size()), 1, 5);
        const auto start = Clock::now();
        for (int i = 0; i < rounds; ++i) step();
        m.profiled_ms = 1e3 * since(start) / rounds;
        for (auto [name, cost] : profile.rows()) {
            cost.calls /= rounds;
            for (double* value : {&cost.seconds, &cost.bytes, &cost.flop}) *value /= rounds;
            m.kernels[name] = cost;
        }
    }
    return m;
}

/// Kernels by falling time, and what lies between them.
std::vector<std::pair<std::string, KernelCost>> by_time(const Measured& m) {
    std::vector<std::pair<std::string, KernelCost>> rows(m.kernels.begin(), m.kernels.end());
    double inside = 0;
    for (const auto& row : rows) inside += row.second.seconds;
    rows.push_back({"between kernels", {.seconds = std::max(0.0, 1e-3 * m.profiled_ms - inside)}});
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto& x, const auto& y) { return x.second.seconds > y.second.seconds; });
    return rows;
}

void print(const Measured& m, const MachineRates& rates) {
    std::printf("%-10s %9.2f ms a step (%.2f to %.2f), %8.2f images/s, %6.0f GFLOP/s", m.mode.c_str(), median(m.ms),
                *std::min_element(m.ms.begin(), m.ms.end()), *std::max_element(m.ms.begin(), m.ms.end()),
                m.images_per_s, m.gflops);
    if (rates.gemm_gflops > 0) std::printf(" (%.2f of the GEMM rate)", m.gflops / rates.gemm_gflops);
    std::printf(", peak %.2f GiB of tensors\n", m.peak_bytes / (1 << 30));
    if (m.kernels.empty()) return;
    std::printf("\n  %-32s %7s %10s %7s %9s %8s %9s\n", "kernel", "calls", "ms a step", "share", "GFLOP/s", "GB/s",
                "of memory");
    for (const auto& [name, k] : by_time(m)) {
        std::printf("  %-32s %7lld %10.3f %6.1f%% ", name.c_str(), static_cast<long long>(k.calls), 1e3 * k.seconds,
                    100 * 1e3 * k.seconds / m.profiled_ms);
        if (k.flop > 0)
            std::printf("%9.0f ", 1e-9 * k.flop / k.seconds);
        else
            std::printf("%9s ", "");
        if (k.bytes > 0)
            std::printf("%8.1f %8.0f%%\n", 1e-9 * k.bytes / k.seconds,
                        100 * 1e-9 * k.bytes / k.seconds / rates.copy_gb);
        else
            std::printf("\n");
    }
    std::printf("\n");
}

std::string to_json(const Measured& m) {
    std::string out =
        concat("{\"mode\": ", json_quote(m.mode), ", \"steps\": ", m.ms.size(), ", \"ms\": ", json_number(median(m.ms)),
               ", \"fastest_ms\": ", json_number(*std::min_element(m.ms.begin(), m.ms.end())),
               ", \"slowest_ms\": ", json_number(*std::max_element(m.ms.begin(), m.ms.end())),
               ", \"images_per_s\": ", json_number(m.images_per_s), ", \"gflops\": ", json_number(m.gflops),
               ", \"peak_mib\": ", json_number(m.peak_bytes / (1 << 20)));
    if (!m.kernels.empty()) {
        out += concat(", \"profiled_ms\": ", json_number(m.profiled_ms), ", \"kernels\": [");
        const auto rows = by_time(m);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const KernelCost& k = rows[i].second;
            out += concat(i ? ", " : "", "{\"name\": ", json_quote(rows[i].first), ", \"calls\": ", k.calls,
                          ", \"ms\": ", json_number(1e3 * k.seconds), ", \"flop\": ", json_number(k.flop),
                          ", \"bytes\": ", json_number(k.bytes), "}");
        }
        out += "]";
    }
    return out + "}";
}

Tensor made_labels(Init& init, std::int64_t n, std::int64_t identities) {
    const Tensor drawn = init.uniform({n}, 1), labels = Tensor::empty({n}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < n; ++i)
        labels.data<std::int64_t>()[i] = std::min(
            identities - 1, static_cast<std::int64_t>((0.5 + 0.5 * static_cast<double>(drawn.data<float>()[i])) *
                                                      static_cast<double>(identities)));
    return labels;
}

Measured bench_training(const BenchArguments& a, const RunConfig& c, Device device, const Precision& precision,
                        std::int64_t identities, double flop) {
    Init init(7);
    const std::shared_ptr<Module> net = network_of(c, device, precision.compute);
    const Var w = Var::leaf(init.normal({identities * head_of(c).centers, c.embedding_size}, 0.01).to(device));
    const std::unique_ptr<Optimizer> optimizer = optimizer_of(c, *net, w);
    BF_CHECK(c.memory == "broadface", "bench", "a training step is measured plain or with broadface; got memory = \"",
             c.memory, "\"; hint: --set memory=broadface, or --mode inference");
    BroadFace broad(
        BroadFaceOptions{
            .queue = c.broadface.queue, .compensate = c.broadface.compensate, .centers = head_of(c).centers},
        c.embedding_size, DType::f32, device);
    if (c.broadface.queue > 0)  // full from the first step
        for (std::int64_t rows = c.broadface.queue, n; rows > 0; rows -= n) {
            n = std::min<std::int64_t>(rows, 4096);
            broad.push(init.normal({n, c.embedding_size}, 1).to(device), made_labels(init, n, w.shape()[0]).to(device),
                       w.value(), 0);
        }
    const MarginHead head(head_of(c), device);
    Trainer<BroadFace> trainer(*net, w, *optimizer,
                               {.margin = margin_of(c),
                                .head = &head,
                                // the images are noise: small steps, so that the numbers stay finite
                                .schedule = {.kind = ScheduleKind::constant, .lr = 1e-4},
                                .want_gradient_norm = true,
                                .products = precision.compute,
                                .kept_bytes = kept_bytes_of(c),
                                .graph = c.cuda_graph},
                               broad);
    const TrainBatch batch{init.normal({c.batch_size, 3, c.image_size, c.image_size}, 0.5).to(device),
                           made_labels(init, c.batch_size, identities).to(device),
                           {}};
    return measure(a, "train", device, c.batch_size, 3 * flop, [&] { trainer.step(std::span(&batch, 1)); });
}

Measured bench_inference(const BenchArguments& a, const RunConfig& c, Device device, const Precision& precision,
                         double flop) {
    Init init(7);
    const std::shared_ptr<Module> net = network_of(c, device, precision.compute);
    const Tensor drawn =
        init.normal({std::max<std::int64_t>(2, c.batch_size), 3, c.image_size, c.image_size}, 0.5).to(device);
    const NoGrad no_grad;
    net->train();  // statistics of these images: without them numbers grow from block to block
    for (int i = 0; i < 30; ++i) (*net)(Var(drawn.rows(0, 2)));
    net->eval();
    const Tensor images = drawn.rows(0, c.batch_size);
    return measure(a, "inference", device, c.batch_size, flop, [&] { (*net)(Var(images)); });
}

}  // namespace

int run_bench(const BenchArguments& a) {
    std::vector<std::string> settings = a.settings;
    if (!a.network.empty()) settings.push_back("network=\"" + a.network + "\"");
    if (a.batch > 0) settings.push_back("batch_size=" + std::to_string(a.batch));
    if (a.queue >= 0) settings.push_back("broadface.queue=" + std::to_string(a.queue));
    RunConfig c = a.config.empty() ? parse_config("", "bf bench", settings) : load_config(a.config, settings);
    if (!a.device.empty()) c.device = a.device;
    if (!a.precision.empty()) c.precision = a.precision;
    const Device device = device_of(c.device);
    BF_CHECK(!a.profile || device == cpu_device, "bench", "--profile measures the CPU's kernels; got device = \"",
             c.device, "\"; hint: tools/gpu_check records the kernels of a GPU");
    const Precision precision = configured(c, device);
    std::int64_t identities = a.identities;
    if (identities == 0) identities = a.config.empty() ? 10000 : open_training_data(c)->identities();
    const MachineRates rates = device == cpu_device ? machine_rates() : MachineRates{};
    const double flop = 2 * static_cast<double>(network_macs(
                                c.network, {.embedding_size = c.embedding_size, .image_size = c.image_size}));
    std::vector<Measured> all;
    if (a.mode.find("train") != std::string::npos)
        all.push_back(bench_training(a, c, device, precision, identities, flop));
    if (a.mode.find("inference") != std::string::npos) all.push_back(bench_inference(a, c, device, precision, flop));
    if (a.json) {
        std::string out = concat(
            "{\"kind\": \"bench\", \"version\": ", json_quote(version), ", \"device\": ", json_quote(device.name()),
            ", \"processor\": ", json_quote(processor()), ", \"threads\": ", cpu_pool().threads(),
            ", \"network\": ", json_quote(c.network), ", \"precision\": ", json_quote(precision.name),
            ", \"batch\": ", c.batch_size, ", \"image_size\": ", c.image_size, ", \"identities\": ", identities,
            ", \"queue\": ", c.broadface.queue, ", \"gemm_gflops\": ", json_number(rates.gemm_gflops),
            ", \"copy_gb_per_s\": ", json_number(rates.copy_gb), ", \"rows\": [");
        for (std::size_t i = 0; i < all.size(); ++i) out += (i ? ", " : "") + to_json(all[i]);
        std::printf("%s]}\n", out.c_str());
        return 0;
    }
    std::printf("%s, %s, %s, batch %lld of %lld x %lld, %lld identities, queue %lld", c.network.c_str(),
                device.name().c_str(), precision.name.c_str(), static_cast<long long>(c.batch_size),
                static_cast<long long>(c.image_size), static_cast<long long>(c.image_size),
                static_cast<long long>(identities), static_cast<long long>(c.broadface.queue));
    if (device == cpu_device)
        std::printf("; %d threads: GEMM %.0f GFLOP/s, copying %.1f GB/s", cpu_pool().threads(), rates.gemm_gflops,
                    rates.copy_gb);
    std::printf("\n");
    for (const Measured& m : all) print(m, rates);
    return 0;
}

}  // namespace bf::program

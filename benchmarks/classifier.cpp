// The fused classifier beside the materialised formula (logits as one Eigen GEMM, softmax, two GEMMs), in one run:
// time of forward and backward, and peak memory beyond W, dW, queue and embeddings. With --device cuda the fused one
// alone, median of several: its peer is benchmarks/peers/torch_arcface.py --what classifier.
#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>

#include "bf/kernels/cpu_matrix.hpp"
#include "bf/nn/init.hpp"
#include "bf/ops/margin_softmax.hpp"

namespace {

using bf::Tensor;

double seconds(const std::function<void()>& f, bf::Device device = bf::cpu_device) {
    const auto start = std::chrono::steady_clock::now();
    f();
    bf::device_memory(device).synchronize(device.index);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The formula with all logits held: rows [R, D] against W [K, D]; dX for the first `batch` rows, dW for all.
void materialised(const Tensor& rows, std::int64_t batch, const Tensor& w, const Tensor& labels, double scale,
                  const Tensor& logits, const Tensor& dx, const Tensor& dw) {
    const std::int64_t r = rows.dim(0), k = w.dim(0);
    bf::Context ctx;
    bf::cpu::gemm(ctx, false, true, scale, rows, w, 0, logits);
    float* z = logits.data<float>();
    const std::int64_t* y = labels.data<std::int64_t>();
    bf::parallel_for(r, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            Eigen::Map<Eigen::ArrayXf> row(z + i * k, k);
            const float m = row.maxCoeff();
            row = (row - m).exp();
            row *= static_cast<float>(scale) / row.sum() / static_cast<float>(r);
            row[y[i]] -= static_cast<float>(scale) / static_cast<float>(r);
        }
    });
    bf::cpu::gemm(ctx, false, false, static_cast<double>(r) / static_cast<double>(batch), logits.rows(0, batch), w, 0,
                  dx);
    bf::cpu::gemm(ctx, true, false, 1, logits, rows, 0, dw);
}

int run(int argc, char** argv) {
    bool quick = false;
    bf::Device device;
    bf::DType products = bf::DType::f32;
    std::string json;
    std::int64_t batch = 128, dim = 512;
    double cap_gib = 6;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--quick")
            quick = true;
        else if (arg == "--json" && i + 1 < argc)
            json = argv[++i];
        else if (arg == "--cap-gib" && i + 1 < argc)
            cap_gib = std::atof(argv[++i]);
        else if (arg == "--batch" && i + 1 < argc)
            batch = std::atoll(argv[++i]);
        else if (arg == "--device" && i + 1 < argc)
            device.type = std::string(argv[++i]) == "cuda" ? bf::DeviceType::cuda : bf::DeviceType::cpu;
        else if (arg == "--products" && i + 1 < argc)
            products = std::string(argv[++i]) == "bf16" ? bf::DType::bf16 : bf::DType::f32;
        else {
            std::printf(
                "usage: bench_classifier [--quick] [--batch N] [--device cpu|cuda] [--products f32|bf16]\n"
                "                        [--cap-gib GIB of materialised logits] [--json FILE]\n");
            return arg == "--help" ? 0 : 2;
        }
    }
    const bool on_cpu = device == bf::cpu_device;
    double gemm = 0;
    if (on_cpu) {
        const std::int64_t side = 1536;
        Tensor a = bf::Init(1).normal({side, side}, 1), b = a.clone(), c = a.clone();
        bf::Context ctx;
        bf::cpu::gemm(ctx, false, false, 1, a, b, 0, c);
        gemm = 2e-9 * static_cast<double>(side * side * side) /
               seconds([&] { bf::cpu::gemm(ctx, false, false, 1, a, b, 0, c); });
        std::printf("threads %d, f32; GEMM rate in this run %.0f GFLOP/s; ", bf::cpu_pool().threads(), gemm);
    }
    std::printf("%s, B %d, D %d, products %s\n%8s %7s %10s %12s %14s %14s %9s\n", device.name().c_str(),
                static_cast<int>(batch), static_cast<int>(dim), bf::name_of(products), "K", "Q", "fused s", "fused MiB",
                "material. s", "material. MiB", "GFLOP/s");
    std::string rows;
    const std::vector<std::int64_t> identities =
        on_cpu ? std::vector<std::int64_t>{10000, 85742} : std::vector<std::int64_t>{85742, 1000000};
    for (const std::int64_t k : identities)
        for (const std::int64_t q : {std::int64_t{0}, std::int64_t{2048}, std::int64_t{8192}, std::int64_t{32768}}) {
            if (quick && (k > identities[0] || q > 2048)) continue;
            if (k == 1000000 && q < 32768) continue;  // the ceiling only: drawing this W takes a while
            bf::Init init(3);
            const bf::Var e = bf::Var::leaf(init.normal({batch, dim}, 1).to(device)),
                          w = bf::Var::leaf(init.normal({k, dim}, 0.01).to(device));
            const Tensor memory = q ? init.normal({q, dim}, 1).to(device) : Tensor();
            const auto labels_of = [&](std::int64_t n) {
                Tensor t = Tensor::empty({n}, {.dtype = bf::DType::i64});
                for (std::int64_t i = 0; i < n; ++i) t.data<std::int64_t>()[i] = i * 7919 % k;
                return t;
            };
            const Tensor y = labels_of(batch).to(device), yq = labels_of(q).to(device);
            w.accumulate(Tensor::zeros({k, dim}, {.device = device}));
            const auto once = [&] {
                const auto loss = bf::margin_softmax(
                    e, w, y, {.margin = bf::arcface(), .memory = {memory, yq, q}, .products = products});
                bf::backward(loss.loss);
            };
            const bf::DeviceMemory& heap = bf::device_memory(device);
            if (!on_cpu) seconds(once, device);  // plans of products are made once
            heap.reset_peak(device.index);
            const auto before = heap.stats(device.index).in_use;
            std::vector<double> times;
            for (int i = 0; i < (on_cpu ? 1 : 5); ++i) times.push_back(seconds(once, device));
            std::sort(times.begin(), times.end());
            const double fused = times[times.size() / 2];
            // the op's own dW buffer is not counted: a caller holds one gradient
            const auto peak = heap.stats(device.index).peak;
            const double extra =
                static_cast<double>(peak - before) / (1 << 20) - static_cast<double>(k * dim * 4) / (1 << 20);
            const double logits_gib = static_cast<double>((batch + q) * k) * 4 / (1 << 30);
            double material = 0;
            if (on_cpu && logits_gib <= cap_gib) {
                const Tensor all = Tensor::empty({batch + q, dim}), all_y = labels_of(batch + q),
                             logits = Tensor::empty({batch + q, k}), dx = Tensor::empty({batch, dim}),
                             dw = Tensor::empty({k, dim});
                all.rows(0, batch).copy_from(e.value());
                if (q) all.rows(batch, batch + q).copy_from(memory);
                material = seconds([&] { materialised(all, batch, w.value(), all_y, 64, logits, dx, dw); });
            }
            heap.release_cache(device.index);
            const double flop = 2.0 * static_cast<double>(k * dim) *
                                (static_cast<double>(batch) * 2 + static_cast<double>(batch + q) * 3);
            std::printf("%8d %7d %10.3f %12.0f ", static_cast<int>(k), static_cast<int>(q), fused, extra);
            if (material > 0)
                std::printf("%14.3f %14.0f ", material, logits_gib * 1024);
            else
                std::printf("%14s %14.0f ", on_cpu ? "over the cap" : "-", logits_gib * 1024);
            std::printf("%9.0f\n", 1e-9 * flop / fused);
            std::fflush(stdout);
            char line[256];
            std::snprintf(line, sizeof line,
                          "%s\n  {\"K\": %d, \"Q\": %d, \"fused_s\": %.4f, \"fused_mib\": %.1f, \"peak_mib\": "
                          "%.1f, \"materialised_s\": %s, \"logits_mib\": %.1f, \"gemm_gflops\": %.1f}",
                          rows.empty() ? "" : ",", static_cast<int>(k), static_cast<int>(q), fused, extra,
                          static_cast<double>(peak) / (1 << 20),
                          material > 0 ? std::to_string(material).c_str() : "null", logits_gib * 1024, gemm);
            rows += line;
        }
    if (!json.empty()) std::ofstream(json) << "[" << rows << "\n]\n";
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_classifier: %s\n", error.what());
        return 1;
    }
}

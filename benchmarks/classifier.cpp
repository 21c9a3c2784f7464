// The fused classifier beside the materialised formula (logits as one Eigen GEMM, softmax, two GEMMs), in one run:
// time of forward and backward, and peak memory beyond W, dW, queue and embeddings.
#include <Eigen/Core>
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

double seconds(const std::function<void()>& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
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

}  // namespace

int main(int argc, char** argv) {
    bool quick = false;
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
        else {
            std::printf("usage: bench_classifier [--quick] [--cap-gib GIB of materialised logits] [--json FILE]\n");
            return arg == "--help" ? 0 : 2;
        }
    }
    const std::int64_t side = 1536;
    Tensor a = bf::Init(1).normal({side, side}, 1), b = a.clone(), c = a.clone();
    bf::Context ctx;
    bf::cpu::gemm(ctx, false, false, 1, a, b, 0, c);
    const double gemm = 2e-9 * static_cast<double>(side * side * side) /
                        seconds([&] { bf::cpu::gemm(ctx, false, false, 1, a, b, 0, c); });
    std::printf("threads %d, B %d, D %d, f32; GEMM rate in this run %.0f GFLOP/s\n%8s %7s %10s %12s %14s %14s %9s\n",
                bf::cpu_pool().threads(), static_cast<int>(batch), static_cast<int>(dim), gemm, "K", "Q", "fused s",
                "fused MiB", "material. s", "material. MiB", "GFLOP/s");
    std::string rows;
    for (const std::int64_t k : {std::int64_t{10000}, std::int64_t{85742}})
        for (const std::int64_t q : {std::int64_t{0}, std::int64_t{2048}, std::int64_t{8192}, std::int64_t{32768}}) {
            if (quick && (k > 10000 || q > 2048)) continue;
            bf::Init init(3);
            const bf::Var e = bf::Var::leaf(init.normal({batch, dim}, 1)),
                          w = bf::Var::leaf(init.normal({k, dim}, 0.01));
            const Tensor memory = q ? init.normal({q, dim}, 1) : Tensor();
            const auto labels_of = [&](std::int64_t n) {
                Tensor t = Tensor::empty({n}, {.dtype = bf::DType::i64});
                for (std::int64_t i = 0; i < n; ++i) t.data<std::int64_t>()[i] = i * 7919 % k;
                return t;
            };
            const Tensor y = labels_of(batch), yq = labels_of(q);
            w.accumulate(Tensor::zeros({k, dim}));
            bf::cpu_allocator().reset_peak();
            const auto before = bf::cpu_allocator().stats().in_use;
            const double fused = seconds([&] {
                const auto loss = bf::margin_softmax(e, w, y, {.margin = bf::arcface(), .memory = {memory, yq, q}});
                bf::backward(loss.loss);
            });
            // the op's own dW buffer is not counted: a caller holds one gradient
            const double extra = static_cast<double>(bf::cpu_allocator().stats().peak - before) / (1 << 20) -
                                 static_cast<double>(k * dim * 4) / (1 << 20);
            const double logits_gib = static_cast<double>((batch + q) * k) * 4 / (1 << 30);
            double material = 0;
            if (logits_gib <= cap_gib) {
                const Tensor all = Tensor::empty({batch + q, dim}), all_y = labels_of(batch + q),
                             logits = Tensor::empty({batch + q, k}), dx = Tensor::empty({batch, dim}),
                             dw = Tensor::empty({k, dim});
                all.rows(0, batch).copy_from(e.value());
                if (q) all.rows(batch, batch + q).copy_from(memory);
                material = seconds([&] { materialised(all, batch, w.value(), all_y, 64, logits, dx, dw); });
            }
            bf::cpu_allocator().release_cache();
            const double flop = 2.0 * static_cast<double>(k * dim) *
                                (static_cast<double>(batch) * 2 + static_cast<double>(batch + q) * 3);
            std::printf("%8d %7d %10.3f %12.0f ", static_cast<int>(k), static_cast<int>(q), fused, extra);
            if (material > 0)
                std::printf("%14.3f %14.0f ", material, logits_gib * 1024);
            else
                std::printf("%14s %14.0f ", "over the cap", logits_gib * 1024);
            std::printf("%9.0f\n", 1e-9 * flop / fused);
            std::fflush(stdout);
            char line[256];
            std::snprintf(line, sizeof line,
                          "%s\n  {\"K\": %d, \"Q\": %d, \"fused_s\": %.4f, \"fused_mib\": %.1f, \"materialised_s\": "
                          "%s, \"logits_mib\": %.1f, \"gemm_gflops\": %.1f}",
                          rows.empty() ? "" : ",", static_cast<int>(k), static_cast<int>(q), fused, extra,
                          material > 0 ? std::to_string(material).c_str() : "null", logits_gib * 1024, gemm);
            rows += line;
        }
    if (!json.empty()) std::ofstream(json) << "[" << rows << "\n]\n";
}

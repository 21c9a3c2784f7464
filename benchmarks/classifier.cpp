// The classifier alone: forward and both gradients of the fused margin softmax. On the CPU beside the materialised
// formula (logits as one Eigen GEMM, softmax, two GEMMs), in one run; on a GPU its peer is peers/torch_arcface.py
// --what classifier. "beside" is the peak memory beyond W, dW, queue and embeddings. With --stage on the queue is
// BroadFace's, as in a training step: rows are copied out and compensated, and the batch is taken in; else its rows lie
// ready. Of the logits the CPU keeps --kept-mib from the first pass to the gradients.
#include <Eigen/Core>

#include "bf/base/version.hpp"
#include "bf/core/parallel.hpp"
#include "bf/kernels/dispatch.hpp"
#include "bf/ops/margin_softmax.hpp"
#include "bf/optim/broadface.hpp"
#include "measure.hpp"

namespace {

using bf::Tensor;

/// The formula with all logits held: rows [R, D] against W [K, D]; dX for the first `batch` rows, dW for all.
void materialised(const Tensor& rows, std::int64_t batch, const Tensor& w, const Tensor& labels, double scale,
                  const Tensor& logits, const Tensor& dx, const Tensor& dw) {
    const std::int64_t r = rows.dim(0), k = w.dim(0);
    bf::Context ctx;
    bf::cpu_table().gemm(ctx, false, true, scale, rows, w, 0, logits);
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
    bf::cpu_table().gemm(ctx, false, false, static_cast<double>(r) / static_cast<double>(batch), logits.rows(0, batch),
                         w, 0, dx);
    bf::cpu_table().gemm(ctx, true, false, 1, logits, rows, 0, dw);
}

void run(int argc, char** argv) {
    const bench::Options given(argc, argv,
                               {{"device", "cpu"},
                                {"products", "f32"},
                                {"batch", "128"},
                                {"queue", ""},
                                {"identities", ""},
                                {"dim", "512"},
                                {"stage", "off"},
                                {"kept-mib", "64"},
                                {"repeats", ""},
                                {"cap-gib", "6"},
                                {"json", ""}});
    const bf::Device device = given.device();
    const bool on_cpu = device == bf::cpu_device;
    const bf::DType products = given.text("products") == "bf16" ? bf::DType::bf16 : bf::DType::f32;
    BF_CHECK(given.text("products") == bf::name_of(products), "--products", "got ", given.text("products"),
             ", want f32 or bf16");
    const bool stage = given.text("stage") == "on";
    const std::int64_t dim = given.number("dim");
    const int repeats = given.text("repeats").empty() ? (on_cpu ? 1 : 15) : static_cast<int>(given.number("repeats"));
    const auto list = [&](const char* name, std::vector<std::int64_t> otherwise) {
        return given.text(name).empty() ? otherwise : given.numbers(name);
    };
    const std::vector<std::int64_t> identities = list("identities", {on_cpu ? 10000 : 85742, on_cpu ? 85742 : 1000000}),
                                    queues = list("queue", {0, 2048, 8192, 32768});
    double gemm = 0;
    if (on_cpu) {
        const std::int64_t side = 1536;
        Tensor a = bf::Init(1).normal({side, side}, 1), b = a.clone(), c = a.clone();
        bf::Context ctx;
        bf::cpu_table().gemm(ctx, false, false, 1, a, b, 0, c);
        gemm = 2e-9 * static_cast<double>(side * side * side) /
               bench::seconds(device, [&] { bf::cpu_table().gemm(ctx, false, false, 1, a, b, 0, c); });
        std::printf("threads %d; GEMM rate of f32 in this run %.0f GFLOP/s; ", bf::cpu_pool().threads(), gemm);
    }
    bench::Results results(given.text("json"), bench::Fields()
                                                   .put("engine", "bf")
                                                   .put("version", bf::version)
                                                   .put("device", device.name())
                                                   .put("precision", bf::name_of(products))
                                                   .put("dim", dim)
                                                   .put("gemm_gflops", gemm));
    std::printf("%s, D %d, products %s, stage %s, medians of %d\n%6s%9s%8s%11s%11s%11s%13s%15s%9s\n",
                device.name().c_str(), static_cast<int>(dim), bf::name_of(products), stage ? "on" : "off", repeats, "B",
                "K", "Q", "fused ms", "beside MiB", "peak MiB", "material. ms", "material. MiB", "GFLOP/s");
    for (const std::int64_t k : identities)
        for (const std::int64_t batch : given.numbers("batch"))
            for (const std::int64_t q : queues) {
                // of a great K the ceiling alone, unless it was asked for
                if (given.text("identities").empty() && k == 1000000 && q != queues.back()) continue;
                const bf::DeviceMemory& heap = bf::device_memory(device);
                heap.synchronize(device.index);
                heap.release_cache(device.index);
                bf::Init init(3);
                const bf::Var e = bf::Var::leaf(init.normal({batch, dim}, 1).to(device)),
                              w = bf::Var::leaf(bench::random_rows(init, k, dim, 0.01, device));
                const Tensor y = bench::labels_of(batch, k, device);
                bf::BroadFace broad({.queue = stage ? q : 0}, dim, bf::DType::f32, device);
                bf::ClassifierMemory ready{{}, {}, 0};
                if (q) ready = {bench::random_rows(init, q, dim, 1, device), bench::labels_of(q, k, device), q};
                if (stage && q) {
                    broad.push(ready.embeddings, ready.labels, w.value(), 0);
                    ready = {};
                }
                const auto once = [&] {
                    w.zero_grad();
                    e.zero_grad();
                    const auto loss = bf::margin_softmax(e, w, y,
                                                         {.margin = bf::arcface(),
                                                          .memory = stage ? broad.memory(w.value(), 0) : ready,
                                                          .products = products,
                                                          .kept_bytes = given.number("kept-mib") << 20});
                    bf::backward(loss.loss);
                    broad.push(e.value(), y, w.value(), 0);
                };
                once();  // gradients are there, and a GPU has its plans
                heap.synchronize(device.index);
                heap.reset_peak(device.index);
                const auto before = heap.stats(device.index).in_use;
                once();
                const auto peak = static_cast<double>(heap.stats(device.index).peak);
                const double beside = bench::mib(peak - static_cast<double>(before));
                const double logits_gib = static_cast<double>((batch + q) * k) * 4 / (1 << 30);
                const bool beside_formula = on_cpu && logits_gib <= given.real("cap-gib");
                Tensor all, all_y, logits, dx, dw;
                if (beside_formula) {
                    all = Tensor::empty({batch + q, dim});
                    all_y = bench::labels_of(batch + q, k, device);
                    logits = Tensor::empty({batch + q, k});
                    dx = Tensor::empty({batch, dim});
                    dw = Tensor::empty({k, dim});
                    all.rows(0, batch).copy_from(e.value());
                    if (q) all.rows(batch, batch + q).copy_from(bench::random_rows(init, q, dim, 1, device));
                }
                const auto formula = [&] { materialised(all, batch, w.value(), all_y, 64, logits, dx, dw); };
                if (beside_formula) formula();
                std::vector<double> times, formula_times;
                for (int i = 0; i < repeats; ++i) {  // in turns
                    times.push_back(bench::seconds(device, once));
                    if (beside_formula) formula_times.push_back(bench::seconds(device, formula));
                }
                const double fused = bench::median(times), material = beside_formula ? bench::median(formula_times) : 0;
                const double flop = 2.0 * static_cast<double>(k * dim) *
                                    (static_cast<double>(batch) * 2 + static_cast<double>(batch + q) * 3);
                std::printf("%6d%9d%8d%11.2f%11.0f%11.0f", static_cast<int>(batch), static_cast<int>(k),
                            static_cast<int>(q), 1e3 * fused, beside, bench::mib(peak));
                if (material > 0)
                    std::printf("%13.2f%15.0f", 1e3 * material, logits_gib * 1024);
                else
                    std::printf("%13s%15.0f", on_cpu ? "over the cap" : "-", logits_gib * 1024);
                std::printf("%9.0f\n", 1e-9 * flop / fused);
                std::fflush(stdout);
                bench::Fields row;
                row.put("what", "classifier")
                    .put("network", "-")
                    .put("stage", stage)
                    .put("classes", k)
                    .put("batch", batch)
                    .put("queue", q)
                    .put("ms", 1e3 * fused)
                    .put("peak_mib", bench::mib(peak))
                    .put("beside_mib", beside)
                    .put("logits_mib", logits_gib * 1024);
                if (material > 0) row.put("materialised_ms", 1e3 * material);
                results.add(row);
            }
}

}  // namespace

int main(int argc, char** argv) {
    return bench::guarded("bench_classifier", [&] { run(argc, argv); });
}

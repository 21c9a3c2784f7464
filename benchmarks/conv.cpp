// Convolution rates at IResNet's shapes: effective GFLOP/s (2 x multiply-accumulates of the direct formula) of each
// pass, beside a plain Eigen GEMM of the same FLOP count and a naive seven-loop convolution, in one run, in turns;
// where the build has oneDNN, its rates too.
#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_backend.hpp"
#include "bf/kernels/dispatch.hpp"

namespace {

using bf::ConvGeometry;
using bf::Format;
using bf::Tensor;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

double seconds(const std::function<void()>& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}
Tensor filled(const bf::Shape& shape, Format format = Format::plain) {
    Tensor t = Tensor::empty(shape, {.format = format});
    for (std::int64_t i = 0; i < t.numel(); ++i)
        t.data<float>()[i] = static_cast<float>((i * 37) % 101) / 101.0f - 0.5f;
    return t;
}

/// The formula, one output row in eight, on one thread.
double naive_rate(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& y) {
    const float *in = x.data<float>(), *weight = w.data<float>();
    float* out = y.data<float>();
    std::int64_t macs = 0;
    const double time = seconds([&] {
        for (std::int64_t oy = 0; oy < g.h_out(); oy += 8)
            for (std::int64_t ox = 0; ox < g.w_out(); ++ox)
                for (std::int64_t o = 0; o < g.c_out; ++o) {
                    float sum = 0;
                    for (std::int64_t c = 0; c < g.c_in; ++c)
                        for (std::int64_t ky = 0; ky < g.kernel_h; ++ky)
                            for (std::int64_t kx = 0; kx < g.kernel_w; ++kx, ++macs) {
                                const std::int64_t iy = oy * g.stride - g.pad + ky, ix = ox * g.stride - g.pad + kx;
                                if (iy >= 0 && ix >= 0 && iy < g.h && ix < g.w)
                                    sum += in[(iy * g.w + ix) * g.c_in + c] *
                                           weight[((o * g.c_in + c) * g.kernel_h + ky) * g.kernel_w + kx];
                            }
                    out[(oy * g.w_out() + ox) * g.c_out + o] = sum;
                }
    });
    return 2e-9 * static_cast<double>(macs) / time;
}

struct Layer {
    const char* name;
    ConvGeometry g;
    bool target;
};

ConvGeometry geometry(std::int64_t n, std::int64_t in, std::int64_t side, std::int64_t out, std::int64_t kernel = 3,
                      std::int64_t stride = 1) {
    return {n, in, side, side, out, kernel, kernel, stride, kernel / 2, 1};
}

}  // namespace

int main(int argc, char** argv) {
    std::int64_t batch = 8;
    int repeats = 7;
    bf::DType dtype = bf::DType::f32;
    std::string json;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        const bool value = i + 1 < argc;
        if (arg == "--batch" && value)
            batch = std::atoll(argv[++i]);
        else if (arg == "--repeats" && value)
            repeats = std::atoi(argv[++i]);
        else if (arg == "--bf16")
            dtype = bf::DType::bf16;
        else if (arg == "--json" && value)
            json = argv[++i];
        else {
            std::printf("usage: bench_conv [--batch N] [--repeats N] [--bf16] [--json FILE]\n");
            return arg == "--help" ? 0 : 2;
        }
    }
    const std::vector<Layer> layers{
        {"64@56 3x3", geometry(batch, 64, 56, 64), true},
        {"128@28 3x3", geometry(batch, 128, 28, 128), true},
        {"256@14 3x3", geometry(batch, 256, 14, 256), true},
        {"512@7 3x3", geometry(batch, 512, 7, 512), true},
        {"64@112 3x3", geometry(batch, 64, 112, 64), false},
        {"3-64@112 3x3", geometry(batch, 3, 112, 64), false},
        {"64@112 3x3 s2", geometry(batch, 64, 112, 64, 3, 2), false},
        {"128@56 3x3 s2", geometry(batch, 128, 56, 128, 3, 2), false},
        {"256@28 3x3 s2", geometry(batch, 256, 28, 256, 3, 2), false},
        {"64-128@56 1x1 s2", geometry(batch, 64, 56, 128, 1, 2), false},
    };
    std::vector<bf::CpuConv> choices{bf::CpuConv::own};
    const std::string onednn = bf::cpu_backend().onednn;
    if (!onednn.empty()) choices.push_back(bf::CpuConv::onednn);
    std::printf(
        "threads %d, batch %d, images in %s, medians of %d; GFLOP/s effective (ratio to Eigen GEMM of equal FLOP in "
        "f32)\n",
        bf::cpu_pool().threads(), static_cast<int>(batch), bf::name_of(dtype), repeats);
    std::printf("%-18s %10s %18s %18s %18s %8s\n", "layer", "GEMM", "forward", "dx", "dw", "naive");
    std::string rows;
    for (const Layer& layer : layers) {
        const ConvGeometry& g = layer.g;
        bf::Context ctx;
        const Tensor wide_x = filled({g.n, g.c_in, g.h, g.w}, Format::nhwc),
                     wide_y = filled({g.n, g.c_out, g.h_out(), g.w_out()}, Format::nhwc),
                     w = filled({g.c_out, g.c_in, g.kernel_h, g.kernel_w}), dw = w.clone();
        const auto images = [&](const Tensor& wide) {
            const Tensor t = Tensor::empty(wide.shape(), {dtype, bf::cpu_device, Format::nhwc});
            bf::cpu_table().convert(ctx, wide, t);
            return t;
        };
        const Tensor x = images(wide_x), y = images(wide_y), dx = x.clone();
        const double flop = 2.0 * static_cast<double>(g.macs());
        // a square GEMM on each thread, together of the same FLOP count
        const int threads = bf::cpu_pool().threads();
        const auto side = static_cast<std::int64_t>(std::cbrt(flop / 2 / threads));
        std::vector<Matrix> a, b, c;
        for (int t = 0; t < threads; ++t) {
            a.emplace_back(Matrix::Random(side, side));
            b.emplace_back(Matrix::Random(side, side));
            c.emplace_back(side, side);
        }
        const double gemm_flop = 2.0 * static_cast<double>(side * side * side) * threads;
        struct Rates {
            std::vector<double> forward, back, weight;
        };
        std::vector<double> gemm;
        std::vector<Rates> rates(choices.size());
        const auto automatic = bf::ConvAlgorithm::automatic;
        for (int r = -1; r < repeats; ++r) {
            const double t0 = seconds([&] {
                bf::cpu_pool().run(threads, [&](std::int64_t t) {
                    const auto i = static_cast<std::size_t>(t);
                    c[i].noalias() = a[i] * b[i];
                });
            });
            if (r >= 0) gemm.push_back(1e-9 * gemm_flop / t0);
            for (std::size_t i = 0; i < choices.size(); ++i) {
                bf::choose_cpu_conv(choices[i]);
                const double t1 = seconds([&] { bf::cpu_table().conv2d(ctx, g, automatic, x, w, y); });
                const double t2 = seconds([&] { bf::cpu_table().conv2d_dx(ctx, g, automatic, y, w, dx); });
                const double t3 = seconds([&] { bf::cpu_table().conv2d_dw(ctx, g, automatic, x, y, dw); });
                if (r < 0) continue;  // warm-up
                rates[i].forward.push_back(1e-9 * flop / t1);
                rates[i].back.push_back(1e-9 * flop / t2);
                rates[i].weight.push_back(1e-9 * flop / t3);
            }
        }
        const double base = median(gemm), naive = naive_rate(g, wide_x, w, wide_y);
        for (std::size_t i = 0; i < choices.size(); ++i) {
            const double forward = median(rates[i].forward), back = median(rates[i].back),
                         weight = median(rates[i].weight);
            std::printf("%-18s %10.0f %10.0f (%4.2fx) %10.0f (%4.2fx) %10.0f (%4.2fx) %8.2f\n",
                        i ? ("  oneDNN " + onednn).c_str() : layer.name, base, forward, forward / base, back,
                        back / base, weight, weight / base, naive);
            std::fflush(stdout);
            char line[512];
            std::snprintf(
                line, sizeof line,
                "%s\n  {\"layer\": \"%s\", \"kernels\": \"%s\", \"images\": \"%s\", \"gemm\": %.1f, \"forward\": "
                "%.1f, \"dx\": %.1f, \"dw\": %.1f, \"naive\": %.2f}",
                rows.empty() ? "" : ",", layer.name, i ? "oneDNN" : "own", bf::name_of(dtype), base, forward, back,
                weight, naive);
            rows += line;
        }
    }
    if (!json.empty()) std::ofstream(json) << "[" << rows << "\n]\n";
}

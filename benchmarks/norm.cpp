// Batch norm in training, alone and with the PReLU or the sum behind it: one fused pass against one op after the other,
// at the shapes of an IResNet. Medians; GB/s of the bytes that must move: a pass reads or writes a tensor once.
#include "bf/ops/norm.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/nn/init.hpp"
#include "bf/ops/pointwise.hpp"

namespace {

using bf::Format;
using bf::Tensor;
using bf::Var;

double seconds(const std::chrono::steady_clock::time_point& start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
}

enum class Tail { none, prelu, add };

struct Layer {
    Var x, gamma, beta, slope, residual;
    Tensor dy;

    Var forward(Tail tail, bool fused) const {
        const auto norm = [&](const bf::BatchNormFusion& fusion) {
            return bf::batch_norm_train(x, gamma, beta, {}, {}, 0.1, 1e-5, fusion);
        };
        if (tail == Tail::prelu) return fused ? norm({.slope = slope}) : bf::prelu(norm({}), slope);
        if (tail == Tail::add) return fused ? norm({.residual = residual}) : bf::add(norm({}), residual);
        return norm({});
    }
    /// Seconds of the forward and of the backward pass.
    std::pair<double, double> run(Tail tail, bool fused) const {
        for (const Var& v : {x, gamma, beta, slope, residual}) v.zero_grad();
        const auto start = std::chrono::steady_clock::now();
        const Var y = forward(tail, fused);
        const double forward_time = seconds(start);
        const auto middle = std::chrono::steady_clock::now();
        bf::backward(y, dy);
        return {forward_time, seconds(middle)};
    }
};

}  // namespace

int main(int argc, char** argv) {
    std::int64_t batch = 16;
    int repeats = 9;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--batch" && i + 1 < argc)
            batch = std::atoll(argv[++i]);
        else if (arg == "--repeats" && i + 1 < argc)
            repeats = std::atoi(argv[++i]);
        else {
            std::printf("usage: bench_norm [--batch N] [--repeats N]\n");
            return arg == "--help" ? 0 : 2;
        }
    }
    struct Image {
        std::int64_t channels, side;
    };
    struct Kind {
        Tail tail;
        const char* name;
        int forward[2], backward[2];  ///< tensors read and written: composed, fused
    };
    const Kind kinds[] = {{Tail::none, "bn", {3, 3}, {5, 5}},
                          {Tail::prelu, "bn + prelu", {5, 3}, {8, 5}},
                          {Tail::add, "bn + add", {6, 4}, {5, 5}}};
    std::printf("batch %d, f32, %d threads, medians of %d\n", static_cast<int>(batch), bf::cpu_pool().threads(),
                repeats);
    std::printf("%-9s %-11s %-9s %12s %20s %8s\n", "shape", "op", "pass", "composed", "fused", "times");
    for (const Image& image : {Image{64, 112}, Image{64, 56}, Image{128, 28}, Image{256, 14}, Image{512, 7}}) {
        const std::int64_t c = image.channels;
        bf::Init init(1);
        const auto draw = [&] {
            return bf::converted(init.normal({batch, c, image.side, image.side}, 1), bf::DType::f32, Format::nhwc);
        };
        const Layer layer{.x = Var::leaf(draw()),
                          .gamma = Var::leaf(init.normal({c}, 1)),
                          .beta = Var::leaf(init.normal({c}, 1)),
                          .slope = Var::leaf(init.constant({c}, 0.25)),
                          .residual = Var::leaf(draw()),
                          .dy = draw()};
        const double gigabytes = 1e-9 * static_cast<double>(layer.dy.bytes());
        for (const Kind& kind : kinds) {
            std::vector<double> forward[2], backward[2];
            for (int r = -1; r < repeats; ++r)  // the first one warms up
                for (const bool fused : {false, true}) {
                    const auto [f, b] = layer.run(kind.tail, fused);
                    if (r < 0) continue;
                    forward[fused].push_back(f);
                    backward[fused].push_back(b);
                }
            const auto line = [&](const char* pass, const std::vector<double>* times, const int* passes) {
                const double composed = median(times[0]), fused = median(times[1]);
                std::printf("%3d @ %-3d %-11s %-9s %7.2f ms %5.1f GB/s  %7.2f ms %5.1f GB/s  %.2f\n",
                            static_cast<int>(c), static_cast<int>(image.side), kind.name, pass, 1e3 * composed,
                            passes[0] * gigabytes / composed, 1e3 * fused, passes[1] * gigabytes / fused,
                            composed / fused);
            };
            line("forward", forward, kind.forward);
            line("backward", backward, kind.backward);
        }
    }
}

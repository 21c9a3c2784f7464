#pragma once
#include <algorithm>
#include <numeric>

#include "bf/data/loader.hpp"
#include "bf/eval/verification.hpp"
#include "bf/nn/module.hpp"

namespace bf {

/// How images become embeddings.
struct EmbedOptions {
    std::int64_t batch_size = 64;
    bool flip = true;  ///< add the embedding of the mirrored image (InsightFace's protocol)
    InputFormat input{};
};

/// Raw embeddings [n, D] f32 (not normalised) of the named images of a dataset, in evaluation mode; the network and
/// each module below it return to the mode that they were in. `progress(done)` is called after each batch; what it
/// throws ends the work. `x_norm` gets the mean L2 norm of the raw embeddings over both passes (InsightFace's XNorm),
/// not that of their sums.
template <class Progress>
Tensor embed(Module& net, const Dataset& images, std::span<const std::int64_t> indices, std::int64_t image_size,
             const EmbedOptions& options, Progress&& progress, double* x_norm = nullptr) {
    BF_CHECK(options.batch_size > 0, "embed", "batch_size; got ", options.batch_size, ", want 1 or more");
    BF_CHECK(!indices.empty(), "embed", "no images to embed");
    const NoGrad no_grad;
    const KeepModes keep(net);
    net.eval();
    Tensor all;
    double norms = 0;  // summed over images and passes
    const auto n = static_cast<std::int64_t>(indices.size());
    for (std::int64_t begin = 0; begin < n; begin += options.batch_size) {
        const std::int64_t end = std::min(n, begin + options.batch_size);
        const auto some = indices.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
        const auto pass = [&](bool flip) {
            const Tensor x =
                load_images(images, some, static_cast<int>(image_size), flip, options.input).to(net.device());
            const Tensor e = net(Var(x)).value().to(cpu_device);
            norms += mean_norm(e) * static_cast<double>(end - begin);
            return e;
        };
        const Tensor e = options.flip ? flip_sum(pass(false), pass(true)) : pass(false);
        if (!all.defined()) all = Tensor::empty({n, e.dim(1)});
        all.rows(begin, end).copy_from(e);
        progress(end);
    }
    if (x_norm) *x_norm = norms / static_cast<double>(n * (options.flip ? 2 : 1));
    return all;
}

/// Raw embeddings of every image of a dataset, mirrored image added.
inline Tensor embed(Module& net, const Dataset& images, std::int64_t image_size) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(images.size()));
    std::iota(indices.begin(), indices.end(), 0);
    return embed(net, images, indices, image_size, {}, [](std::int64_t) {});
}

}  // namespace bf

#pragma once
#include <algorithm>
#include <vector>

#include "bf/data/loader.hpp"
#include "bf/nn/module.hpp"
#include "bf/optim/broadface.hpp"

namespace bf {

/// Encodes images as training does (batch statistics, dropout of forward pass number `step`); the running statistics,
/// the modes and the step of the network stay as they were. Raw embeddings [B, D] on the network's device.
inline Tensor encode_as_training(Module& net, const Tensor& images, std::uint64_t step) {
    std::vector<Tensor> before;
    for (const auto& [name, buffer] : net.buffers()) before.push_back(buffer.clone());
    const NoGrad no_grad;
    const KeepModes keep(net);
    net.train();
    net.set_step(step);
    const Tensor e = net(Var(images.to(net.device()))).value();
    const auto buffers = net.buffers();
    for (std::size_t i = 0; i < before.size(); ++i) buffers[i].second.copy_from(before[i]);
    return e;
}

/// How queue rows are sampled for measure_drift().
struct DriftOptions {
    std::int64_t rows = 128;  ///< at least so many, in whole batches, where the queue has them
    std::int64_t bins = 10;   ///< of age; at least one batch of each
};

/// How well the rows of a run's queue stand for what the network makes of the same inputs now. Whole batches of the
/// queue, evenly over its ages, are made again and encoded again: the same images with the augmentation, the batch
/// statistics and the dropout of then. What is left is how the network moved: at age 0 the error would be nothing.
/// `steps`: optimizer steps done; `loader` must have given the batches of the queue, the newest row last.
inline QueueDrift measure_drift(const BroadFace& broad, Module& net, const Tensor& w, const Loader& loader,
                                std::uint64_t steps, const DriftOptions& options = {}) {
    BF_CHECK(options.rows > 0 && options.bins > 0, "measure_drift", "rows and bins; got ", options.rows, " and ",
             options.bins);
    const EmbeddingQueue& queue = broad.queue();
    const std::int64_t size = loader.batch_size(), next = static_cast<std::int64_t>(loader.number()),
                       there = std::min((queue.size() + size - 1) / size, next);
    if (there == 0) return {};
    const std::int64_t wanted =
        std::min(there, std::max((options.rows + size - 1) / size, std::min(options.bins, there)));
    std::vector<std::int64_t> numbers;
    const Tensor now = Tensor::empty({wanted * size, queue.dim()}, {.dtype = queue.dtype()});
    for (std::int64_t i = 0; i < wanted; ++i) {
        const std::int64_t back = wanted > 1 ? i * (there - 1) / (wanted - 1) : 0;
        const auto number = static_cast<std::uint64_t>(next - 1 - back);
        const Batch batch = loader.again(number);
        const Tensor e = encode_as_training(net, batch.images, number).to(cpu_device);
        for (std::int64_t r = 0; r < size; ++r) {
            const std::int64_t row = queue.sequence() - (back + 1) * size + r;
            // the oldest batch may have left in part; rows of an earlier part of a run may have had other images
            if (row < queue.oldest() || queue.index_of(row) != batch.indices.data<std::int64_t>()[r]) continue;
            const auto at = static_cast<std::int64_t>(numbers.size());
            now.rows(at, at + 1).copy_from(e.rows(r, r + 1));
            numbers.push_back(row);
        }
    }
    if (numbers.empty()) return {};
    return broad.drift(w, now.rows(0, static_cast<std::int64_t>(numbers.size())), numbers, steps, options.bins);
}

}  // namespace bf

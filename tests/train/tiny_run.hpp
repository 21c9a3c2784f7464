#pragma once
#include <gtest/gtest.h>

#include <array>
#include <span>
#include <vector>

#include "bf/data/loader.hpp"
#include "bf/data/synthetic.hpp"
#include "bf/models/iresnet.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/train/trainer.hpp"

// A run so small that tests train it, and the ten losses that were recorded of it.

namespace tiny_run {

inline constexpr std::int64_t dim = 8, people = 6, batch_size = 8;

/// The first `count` batches of a seeded loader: drawn faces of 16 pixels.
inline std::vector<bf::TrainBatch> batches(std::size_t count, std::uint64_t seed = 3) {
    const bf::SyntheticFaces faces({.identities = people, .images_per_identity = 8, .size = 16});
    bf::Loader loader(faces, {.batch_size = batch_size, .image_size = 16, .seed = seed, .workers = 1});
    std::vector<bf::TrainBatch> all;
    while (all.size() < count) {
        const bf::Batch b = loader.next();
        all.push_back({b.images, b.labels, b.indices});
    }
    return all;
}

/// A network, a classifier and SGD with momentum: everything a Trainer wants, from fixed seeds. The classifier learns
/// faster than the network, so that the queue's compensation matters from the first steps.
struct Parts {
    explicit Parts(double dropout = 0, bf::Device device = bf::cpu_device, bf::DType compute = bf::DType::f32,
                   std::int64_t centers = 1)
        : net(bf::iresnet("iresnet_small", {.embedding_size = dim,
                                            .image_size = 16,
                                            .dropout = dropout,
                                            .seed = 4,
                                            .compute = compute,
                                            .device = device})),
          w(bf::Var::leaf(bf::Init(5).normal({people * centers, dim}, 0.1).to(device))),
          sgd({{.parameters = net->parameters(), .weight_decay = 5e-4},
               {.parameters = {{"classifier.weight", w}}, .lr_scale = 20, .weight_decay = 5e-4}},
              {.momentum = 0.5}) {}
    std::shared_ptr<bf::IResNet> net;
    bf::Var w;
    bf::Sgd sgd;
};

inline const bf::Margin margin = bf::arcface(8, 0.3);
inline const bf::TrainerOptions constant_lr{.margin = margin,
                                            .schedule = {.kind = bf::ScheduleKind::constant, .lr = 0.0005}};
inline const bf::TrainerOptions warm_up{.margin = margin,
                                        .schedule = {.lr = 0.002, .warmup_steps = 6, .total_steps = 10}};

/// Images and labels on a device; indices stay on the host.
inline bf::TrainBatch on(bf::Device device, const bf::TrainBatch& batch) {
    return {batch.images.to(device), batch.labels.to(device), batch.indices};
}
template <class... Stages>
bf::StepReport one_step(bf::Trainer<Stages...>& trainer, const bf::TrainBatch& batch) {
    return trainer.step(std::span(&batch, 1));
}

// ---- ten recorded losses

inline constexpr std::uint64_t first_use = 3;  // the queue of 20 is full by then: three batches of 8
struct Losses {
    std::array<double, 10> encoder{}, classifier{};
};

inline Losses ten_steps(std::int64_t queue, bf::Device device = bf::cpu_device, bf::DType products = bf::DType::f32) {
    Parts p(0, device);
    bf::BroadFace broad({.queue = queue, .start_step = first_use}, dim, bf::DType::f32, device);
    bf::TrainerOptions options = constant_lr;
    options.products = products;
    bf::Trainer trainer(*p.net, p.w, p.sgd, options, broad);
    const auto data = batches(10);
    Losses losses;
    for (std::size_t i = 0; i < 10; ++i) {
        const bf::StepReport r = one_step(trainer, on(device, data[i]));
        losses.encoder[i] = r.loss;
        losses.classifier[i] = r.classifier_loss;
    }
    return losses;
}

// Recorded with gcc and AVX-512. Builds with AVX2, SSE, clang or -O2 stay within 1e-3: some draw one pixel one level
// apart. A wrong sign in compensation moves the classifier's losses by up to 17 percent, one in the margin all by more.
inline const Losses recorded_off{
    {6.1761270, 8.3031950, 6.1470299, 4.6918826, 6.2156549, 5.9342070, 4.4993501, 4.0665889, 4.4035726, 5.1979961},
    {6.1761270, 8.3031950, 6.1470299, 4.6918826, 6.2156549, 5.9342070, 4.4993501, 4.0665889, 4.4035726, 5.1979961}};
inline const Losses recorded_on{
    {6.1761270, 8.3031950, 6.1470299, 4.6918826, 5.9436650, 5.9571118, 4.6155028, 4.2140112, 4.3271780, 5.1455579},
    {6.1761270, 8.3031950, 6.1470299, 5.6534381, 5.0353727, 5.1028080, 4.8546910, 4.6845808, 4.2418981, 4.2003851}};

inline void expect_recorded(const Losses& got, const Losses& want, double near = 2e-3) {
    for (std::size_t i = 0; i < 10; ++i) {
        EXPECT_NEAR(got.encoder[i], want.encoder[i], near * want.encoder[i])
            << "step " << i << " of " << ::testing::PrintToString(got.encoder);
        EXPECT_NEAR(got.classifier[i], want.classifier[i], near * want.classifier[i])
            << "step " << i << " of " << ::testing::PrintToString(got.classifier);
    }
}

}  // namespace tiny_run

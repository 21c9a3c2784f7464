// A researcher's own margin and own optimizer stage, beside BroadFace, without touching the engine.
//
// A margin is a functor: cosine of an embedding with its identity's weights in, {phi, d phi / d cos} out. Here it is a
// soft margin that fades where the cosine is already high. A stage is any class with some of the hooks after_forward,
// before_step, after_step; here one keeps every weight row at unit length after each update. The fused classifier, the
// queue and the two gradients work with both as with the built-in ones. The program trains on drawn faces and prints
// the loss.
#include <cstdio>
#include <cstdlib>

#include "bf/bf.hpp"

/// phi = cos - m (1 - cos) / 2: a margin of m at cos -1 that fades to nothing at cos 1.
struct FadingMargin {
    double m = 0.4;
    template <class T>
    bf::MarginValue<T> operator()(T cosine) const {
        const T half = static_cast<T>(m / 2);
        return {cosine - half * (1 - cosine), 1 + half};
    }
};

/// Keeps the rows of W at unit length.
struct UnitRows {
    void after_step(bf::StepState& state) {
        const bf::NoGrad no_grad;
        state.weight.value().copy_from(bf::normalize_rows(bf::Var(state.weight.value())).value());
    }
};

int main(int argc, char** argv) {
    const std::uint64_t steps = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100;
    const bf::SyntheticFaces people({.identities = 200, .images_per_identity = 20, .size = 32});
    bf::Loader loader(people, {.batch_size = 32, .image_size = 32});
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 64, .image_size = 32});
    const bf::Var w = bf::Var::leaf(bf::Init(2).normal({people.identities(), 64}, 0.01));
    bf::Sgd sgd({{.parameters = net->parameters()}, {.parameters = {{"classifier.weight", w}}}});
    bf::BroadFace broad({.queue = 512}, 64);
    UnitRows unit_rows;

    for (std::uint64_t step = 0; step < steps; ++step) {
        const bf::Batch batch = loader.next();
        const bf::Var e = (*net)(bf::Var(batch.images));
        bf::ForwardState forward{.step = step,
                                 .micro_batch = 0,
                                 .embeddings = e.value(),
                                 .labels = batch.labels,
                                 .indices = batch.indices,
                                 .weight = w,
                                 .memory = {}};
        bf::run_after_forward(broad, forward);  // the queue's rows
        const auto loss =
            bf::margin_softmax(e, w, batch.labels, FadingMargin{.m = 0.4}, 32, {.memory = forward.memory});
        sgd.zero_grad();
        bf::backward(loss.loss);
        bf::StepState around{.step = step, .weight = w, .forwards = {&forward, 1}};
        bf::run_before_step(broad, around);  // embeddings enter the queue
        sgd.step(0.05);
        bf::run_after_step(unit_rows, around);
        if (step % 20 == 19)
            std::printf("step %3d  encoder loss %.3f  classifier loss %.3f  queue %d\n", static_cast<int>(step + 1),
                        loss.loss.value().item(), loss.classifier_loss.item(), static_cast<int>(broad.size()));
    }
}

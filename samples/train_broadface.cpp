// Trains a small face network with BroadFace, the whole loop written by hand.
//
// Face recognition learns one weight row an identity, but a mini-batch shows few identities. BroadFace keeps a queue
// of past embeddings with the weight rows of their moment. The classifier learns from batch and queue, each old
// embedding moved by how far its identity's row has moved since; the encoder learns from the batch alone. Here the
// images are drawn, so nothing needs to be downloaded: 300 identities to train on, 40 others to verify. At the end
// the accuracy of telling same from different on faces never seen is printed.
//
// g++ -std=c++20 -O3 -march=native -I include -I /usr/include/eigen3 samples/train_broadface.cpp -o train -pthread
#include <cstdio>
#include <cstdlib>

#include "bf/bf.hpp"

int main(int argc, char** argv) {
    const bf::SyntheticFaces people({.identities = 300, .images_per_identity = 20, .size = 32});
    bf::Loader loader(people, {.batch_size = 64, .image_size = 32});
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 64, .image_size = 32});
    const bf::Var w = bf::Var::leaf(bf::Init(2).normal({people.identities(), 64}, 0.01));

    bf::Sgd sgd({{.parameters = net->parameters(), .weight_decay = 5e-4},
                 {.parameters = {{"classifier.weight", w}}, .weight_decay = 5e-4}});
    bf::BroadFace broad({.queue = 1024}, 64);
    const std::uint64_t steps = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300;
    const bf::Schedule lr{.lr = 0.1, .warmup_steps = 30, .total_steps = steps};

    for (std::uint64_t step = 0; step < steps; ++step) {
        const bf::Batch batch = loader.next();
        const bf::Var e = (*net)(bf::Var(batch.images));
        const auto loss = bf::margin_softmax(e, w, batch.labels,
                                             {.margin = bf::arcface(32, 0.3), .memory = broad.memory(w.value(), step)});
        sgd.zero_grad();
        bf::backward(loss.loss);                               // encoder: batch; classifier: batch and queue
        broad.push(e.value(), batch.labels, w.value(), step);  // before w moves
        sgd.step(lr(step));
        if (step % 50 == 49) std::printf("step %3d  loss %.3f\n", static_cast<int>(step + 1), loss.loss.value().item());
    }

    const bf::SyntheticFaces strangers(
        {.identities = 40, .images_per_identity = 20, .size = 32, .first_identity = 300});
    const auto pairs = strangers.verification_pairs(1000, 1);
    const bf::Tensor embeddings = bf::embed(*net, strangers, 32);
    const auto result = bf::verify_folds(bf::pair_distances(embeddings, pairs.pairs), pairs.same, 10);
    std::printf("verification on 40 unseen identities: %.2f %% +- %.2f\n", 100 * result.mean, 100 * result.std);
}

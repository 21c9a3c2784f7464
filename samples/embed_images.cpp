// Embeds image files with a trained network and prints how alike each pair is.
//
// The model is a model.safetensors that `bf train` wrote; its metadata names the network and the image size, so the
// program needs no other option. Each image is read, cropped to its centre square, resized, and embedded together with
// its mirror image; the sum of both embeddings stands for the face. The printed number is the cosine of two faces:
// near 1 for one person, near 0 for two. Images should be aligned as the training images were.
//
//   embed_images runs/demo/broadface-seed1/model.safetensors a.jpg b.jpg c.jpg
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "bf/bf.hpp"

int main(int argc, char** argv) try {
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s MODEL.safetensors IMAGE IMAGE [IMAGE...]\n", argv[0]);
        return 2;
    }
    bf::SafeTensors file = bf::load_safetensors(argv[1]);
    const auto number = [&](const char* key) { return std::atoll(file.metadata[key].c_str()); };
    const auto net = bf::make_network(file.metadata["bf.network"], {.embedding_size = number("bf.embedding_size"),
                                                                    .image_size = number("bf.image_size")});
    const bf::InputFormat input = bf::parse_input_format(file.metadata["bf.input"], argv[1]);
    net->load_state(file.tensors);

    std::vector<bf::FileDataset::Entry> entries;
    for (int i = 2; i < argc; ++i) entries.push_back({argv[i], 0});
    const bf::FileDataset images(std::move(entries));
    std::vector<std::int64_t> all(static_cast<std::size_t>(images.size()));
    std::iota(all.begin(), all.end(), 0);
    const bf::Tensor e = bf::embed(*net, images, all, number("bf.image_size"), {.input = input}, [](std::int64_t) {});

    for (std::int64_t a = 0; a < images.size(); ++a)
        for (std::int64_t b = a + 1; b < images.size(); ++b) {
            const std::pair<std::int64_t, std::int64_t> pair{a, b};
            std::printf("%7.4f  %s  %s\n", 1 - bf::pair_distances(e, {&pair, 1})[0] / 2, images.name(a).c_str(),
                        images.name(b).c_str());
        }
    return 0;
} catch (const bf::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
}

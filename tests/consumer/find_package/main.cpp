#include <cstdio>

#include "bf/models/iresnet.hpp"

int main() {
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 8, .image_size = 16});
    const auto y = (*net)(bf::Var(bf::full({2, 3, 16, 16}, 0.5)));
    std::printf("bf %s: %s\n", bf::version, y.value().str().c_str());
}

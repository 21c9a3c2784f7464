#include <Eigen/Core>
#include <cstdio>

#include "bf/models/iresnet.hpp"

int main() {
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 8, .image_size = 16});
    const auto y = (*net)(bf::Var(bf::full({2, 3, 16, 16}, 0.5)));
    std::printf("bf %s: %s\n", bf::version, y.value().str().c_str());
    // Eigen memory of this program, which is compiled with another alignment than the kernels
    Eigen::MatrixXf m = Eigen::MatrixXf::Random(67, 45);
    for (int i = 1; i < 50; ++i) m = Eigen::MatrixXf::Random(i, 2 * i) * Eigen::MatrixXf::Random(2 * i, i + 3);
    std::printf("%g\n", static_cast<double>(m.sum()));
}

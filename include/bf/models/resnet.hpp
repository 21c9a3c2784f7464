#pragma once
#include <array>

#include "bf/nn/layers.hpp"
#include "bf/ops/pool.hpp"

namespace bf {

/// Sizes of a ResNet of bottlenecks in torchvision's ImageNet layout; the defaults are ResNet-50's (He et al. 2015,
/// with the stride on the 3x3: "v1.5").
struct ResNetOptions {
    std::array<std::int64_t, 4> blocks{3, 4, 6, 3};
    std::int64_t width = 64;  ///< of the stem and inside the first stage; stages give 4, 8, 16 and 32 times as many
    std::int64_t embedding_size = 512;  ///< rows of the last linear, "fc": 1000 for torchvision's classifier
    std::int64_t image_size = 224;
    double dropout = 0;  ///< before fc
    std::uint64_t seed = 1;
    DType dtype = DType::f32;
    DType compute = DType::f32;             ///< of activations up to the mean over the image; see IResNetOptions
    bool activation_checkpointing = false;  ///< of each block; see IResNetOptions
    Device device = cpu_device;
    bool fused = true;  ///< batch norm does the ReLU or the sum behind it in one pass over memory
};

namespace detail {
/// y = relu(norm(x)). With slopes of zero (no parameters), the norm does it in the same pass as a PReLU.
inline Var norm_and_relu(BatchNorm& norm, const Var& zero_slopes, const Var& x) {
    return zero_slopes.value().defined() ? norm.forward(x, {.slope = zero_slopes}) : relu(norm(x));
}
inline Var zero_slopes(std::int64_t channels, bool fused, const Init& init) {
    return fused ? Var(init.constant({channels}, 0)) : Var();
}
}  // namespace detail

/// y = relu(bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))) + shortcut(x)): 1x1, 3x3 with the stride, 1x1.
class Bottleneck : public Module {
  public:
    Bottleneck(std::int64_t in, std::int64_t inside, std::int64_t stride, bool fused, Init& init)
        : fused_(fused),
          conv1_(conv("conv1", {.in = in, .out = inside, .kernel = 1, .pad = 0}, init)),
          bn1_(norm("bn1", inside, init)),
          conv2_(conv("conv2", {.in = inside, .out = inside, .stride = stride}, init)),
          bn2_(norm("bn2", inside, init)),
          conv3_(conv("conv3", {.in = inside, .out = 4 * inside, .kernel = 1, .pad = 0}, init)),
          bn3_(norm("bn3", 4 * inside, init)),
          slopes_(detail::zero_slopes(inside, fused, init)) {
        if (stride == 1 && in == 4 * inside) return;
        downsample_ = add_child("downsample", std::make_shared<Sequential>());
        downsample_->add(std::make_shared<Conv2d>(
            Conv2dLayerOptions{.in = in, .out = 4 * inside, .kernel = 1, .stride = stride, .pad = 0}, init));
        downsample_->add(std::make_shared<BatchNorm>(BatchNormOptions{.channels = 4 * inside}, init));
    }
    Var forward(const Var& x) override {
        Var y = detail::norm_and_relu(*bn1_, slopes_, (*conv1_)(x));
        y = (*conv3_)(detail::norm_and_relu(*bn2_, slopes_, (*conv2_)(y)));
        const Var shortcut = downsample_ ? (*downsample_)(x) : x;
        return relu(fused_ ? bn3_->forward(y, {.residual = shortcut}) : add((*bn3_)(y), shortcut));
    }

  private:
    std::shared_ptr<Conv2d> conv(const char* name, const Conv2dLayerOptions& o, Init& init) {
        return add_child(name, std::make_shared<Conv2d>(o, init));
    }
    std::shared_ptr<BatchNorm> norm(const char* name, std::int64_t channels, Init& init) {
        return add_child(name, std::make_shared<BatchNorm>(BatchNormOptions{.channels = channels}, init));
    }
    bool fused_;
    std::shared_ptr<Conv2d> conv1_;
    std::shared_ptr<BatchNorm> bn1_;
    std::shared_ptr<Conv2d> conv2_;
    std::shared_ptr<BatchNorm> bn2_;
    std::shared_ptr<Conv2d> conv3_;
    std::shared_ptr<BatchNorm> bn3_;
    Var slopes_;
    std::shared_ptr<Sequential> downsample_;
};

/// Images [N, 3, S, S] (normalised as imagenet_input() says, RGB) to raw embeddings [N, D], or to logits where fc has
/// a row a class. Parameter names are torchvision's.
class ResNet : public Module {
  public:
    explicit ResNet(const ResNetOptions& o) : options_(o) {
        BF_CHECK(o.image_size >= 32, "resnet", "image size; got ", o.image_size, ", want 32 or more");
        BF_CHECK(o.embedding_size > 0, "resnet", "embedding size; got ", o.embedding_size);
        Init init(o.seed, o.dtype, o.device);
        slopes_ = detail::zero_slopes(o.width, o.fused, init);
        conv1_ = add_child("conv1",
                           std::make_shared<Conv2d>(
                               Conv2dLayerOptions{.in = 3, .out = o.width, .kernel = 7, .stride = 2, .pad = 3}, init));
        bn1_ = add_child("bn1", std::make_shared<BatchNorm>(BatchNormOptions{.channels = o.width}, init));
        std::int64_t in = o.width, inside = o.width;
        for (std::size_t s = 0; s < 4; ++s, inside *= 2) {
            const auto layer = add_child("layer" + std::to_string(s + 1), std::make_shared<Sequential>());
            for (std::int64_t b = 0; b < o.blocks[s]; ++b) {
                blocks_.push_back(
                    layer->add(std::make_shared<Bottleneck>(in, inside, s > 0 && b == 0 ? 2 : 1, o.fused, init)));
                in = 4 * inside;
            }
        }
        dropout_ = add_child("dropout", std::make_shared<Dropout>(o.dropout, o.seed));
        fc_ = add_child("fc", std::make_shared<Linear>(LinearOptions{.in = in, .out = o.embedding_size}, init));
    }
    Var forward(const Var& x) override {
        BF_CHECK(x.shape().rank() == 4 && x.shape()[1] == 3 && x.shape()[2] == options_.image_size &&
                     x.shape()[3] == options_.image_size,
                 "resnet", "images; got ", x.value().str(), ", want [N, 3, ", options_.image_size, ", ",
                 options_.image_size, "]");
        Var y = options_.compute == DType::bf16 ? cast(x, DType::bf16) : x;
        y = max_pool2d(detail::norm_and_relu(*bn1_, slopes_, (*conv1_)(y)), {.kernel = 3, .stride = 2, .pad = 1});
        for (const auto& block : blocks_) y = options_.activation_checkpointing ? recompute(block, y) : (*block)(y);
        y = flatten(global_avg_pool(cast(y, options_.dtype)));
        return (*fc_)((*dropout_)(y));
    }
    const ResNetOptions& options() const { return options_; }

  private:
    ResNetOptions options_;
    Var slopes_;
    std::shared_ptr<Conv2d> conv1_;
    std::shared_ptr<BatchNorm> bn1_;
    std::vector<std::shared_ptr<Bottleneck>> blocks_;  ///< of all four layers, in order
    std::shared_ptr<Dropout> dropout_;
    std::shared_ptr<Linear> fc_;
};

/// Multiply-accumulates of one image's forward pass, convolutions and the last linear only.
inline std::int64_t multiply_accumulates(const ResNetOptions& o) {
    const auto halved = [](std::int64_t side) { return (side + 1) / 2; };
    std::int64_t side = halved(o.image_size), in = o.width, inside = o.width, macs = 49 * 3 * in * side * side;
    side = halved(side);
    for (std::size_t s = 0; s < 4; ++s, inside *= 2)
        for (std::int64_t b = 0; b < o.blocks[s]; ++b) {
            macs += in * inside * side * side;
            if (s > 0 && b == 0) side = halved(side);
            macs += (9 * inside + 4 * inside) * inside * side * side;
            if (b == 0) macs += in * 4 * inside * side * side;
            in = 4 * inside;
        }
    return macs + in * o.embedding_size;
}

}  // namespace bf

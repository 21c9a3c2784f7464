#pragma once
#include <array>

#include "bf/base/version.hpp"
#include "bf/nn/layers.hpp"

namespace bf {

/// Sizes of an IResNet (InsightFace's improved ResNet; reference networks-and-recipes D3). The defaults of the
/// named networks are in iresnet().
struct IResNetOptions {
    std::array<std::int64_t, 4> blocks{2, 2, 2, 2};
    std::array<std::int64_t, 4> channels{64, 128, 256, 512};
    std::int64_t stem = 64;
    std::int64_t embedding_size = 512;
    std::int64_t image_size = 112;
    double dropout = 0;
    std::uint64_t seed = 1;
    DType dtype = DType::f32;
    /// Of activations up to the last linear: bf16 on devices that have it (convolutions in bf16 with f32 sums;
    /// parameters, statistics, last linear and its batch norm stay f32). f32 means: as `dtype`.
    DType compute = DType::f32;
    /// In training each block keeps its input only and is computed again in the backward pass (recompute()): less
    /// memory for a second forward pass of the blocks.
    bool activation_checkpointing = false;
    Device device = cpu_device;
    /// Batch norm does the PReLU or the sum behind it in one pass over memory (BatchNormFusion). false: one op after
    /// the other, with equal results up to rounding.
    bool fused = true;
};

namespace detail {
// 3x3 and 1x1 convolutions of an IResNet start as N(0, 0.1).
inline std::shared_ptr<Conv2d> iresnet_conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                                            Init& init) {
    return std::make_shared<Conv2d>(
        Conv2dLayerOptions{
            .in = in, .out = out, .kernel = kernel, .stride = stride, .pad = kernel / 2, .init_std = 0.1},
        init);
}
inline std::shared_ptr<BatchNorm> batch_norm_layer(std::int64_t channels, Init& init) {
    return std::make_shared<BatchNorm>(BatchNormOptions{.channels = channels}, init);
}
inline Var norm_and_prelu(BatchNorm& norm, PRelu& prelu, const Var& x, bool fused) {
    return fused ? norm.forward(x, {.slope = prelu.weight()}) : prelu(norm(x));
}
}  // namespace detail

/// y = bn3(conv2(prelu(bn2(conv1(bn1(x)))))) + shortcut(x); the stride is on conv2, no activation after the sum.
class IResNetBlock : public Module {
  public:
    IResNetBlock(std::int64_t in, std::int64_t out, std::int64_t stride, Init& init, bool fused = true)
        : fused_(fused),
          bn1_(add_child("bn1", detail::batch_norm_layer(in, init))),
          conv1_(add_child("conv1", detail::iresnet_conv(in, out, 3, 1, init))),
          bn2_(add_child("bn2", detail::batch_norm_layer(out, init))),
          prelu_(add_child("prelu", std::make_shared<PRelu>(out, init))),
          conv2_(add_child("conv2", detail::iresnet_conv(out, out, 3, stride, init))),
          bn3_(add_child("bn3", detail::batch_norm_layer(out, init))) {
        if (stride == 1 && in == out) return;
        downsample_ = add_child("downsample", std::make_shared<Sequential>());
        downsample_->add(detail::iresnet_conv(in, out, 1, stride, init));
        downsample_->add(detail::batch_norm_layer(out, init));
    }
    Var forward(const Var& x) override {
        Var y = (*conv1_)((*bn1_)(x));
        y = (*conv2_)(detail::norm_and_prelu(*bn2_, *prelu_, y, fused_));
        const Var shortcut = downsample_ ? (*downsample_)(x) : x;
        return fused_ ? bn3_->forward(y, {.residual = shortcut}) : add((*bn3_)(y), shortcut);
    }

  private:
    bool fused_;
    std::shared_ptr<BatchNorm> bn1_;
    std::shared_ptr<Conv2d> conv1_;
    std::shared_ptr<BatchNorm> bn2_;
    std::shared_ptr<PRelu> prelu_;
    std::shared_ptr<Conv2d> conv2_;
    std::shared_ptr<BatchNorm> bn3_;
    std::shared_ptr<Sequential> downsample_;
};

/// Images [N, 3, S, S] (normalised to [-1, 1], RGB) to raw embeddings [N, D]. Parameter names are InsightFace's.
class IResNet : public Module {
  public:
    explicit IResNet(const IResNetOptions& o) : options_(o) {
        BF_CHECK(o.image_size >= 16 && o.image_size % 16 == 0, "iresnet", "image size; got ", o.image_size,
                 ", want a multiple of 16");
        BF_CHECK(o.embedding_size > 0, "iresnet", "embedding size; got ", o.embedding_size);
        Init init(o.seed, o.dtype, o.device);
        conv1_ = add_child("conv1", detail::iresnet_conv(3, o.stem, 3, 1, init));
        bn1_ = add_child("bn1", detail::batch_norm_layer(o.stem, init));
        prelu_ = add_child("prelu", std::make_shared<PRelu>(o.stem, init));
        std::int64_t in = o.stem;
        for (std::size_t s = 0; s < 4; ++s) {
            const auto layer = add_child("layer" + std::to_string(s + 1), std::make_shared<Sequential>());
            for (std::int64_t b = 0; b < o.blocks[s]; ++b) {
                blocks_.push_back(
                    layer->add(std::make_shared<IResNetBlock>(in, o.channels[s], b == 0 ? 2 : 1, init, o.fused)));
                in = o.channels[s];
            }
        }
        bn2_ = add_child("bn2", detail::batch_norm_layer(in, init));
        dropout_ = add_child("dropout", std::make_shared<Dropout>(o.dropout, o.seed));
        const std::int64_t side = o.image_size / 16;
        fc_ = add_child("fc",
                        std::make_shared<Linear>(LinearOptions{.in = in * side * side, .out = o.embedding_size}, init));
        features_ = add_child(
            "features",
            std::make_shared<BatchNorm>(BatchNormOptions{.channels = o.embedding_size, .train_weight = false}, init));
    }
    Var forward(const Var& x) override {
        BF_CHECK(x.shape().rank() == 4 && x.shape()[1] == 3 && x.shape()[2] == options_.image_size &&
                     x.shape()[3] == options_.image_size,
                 "iresnet", "images; got ", x.value().str(), ", want [N, 3, ", options_.image_size, ", ",
                 options_.image_size, "]");
        Var y = options_.compute == DType::bf16 ? cast(x, DType::bf16) : x;
        y = detail::norm_and_prelu(*bn1_, *prelu_, (*conv1_)(y), options_.fused);
        for (const auto& block : blocks_) y = options_.activation_checkpointing ? recompute(block, y) : (*block)(y);
        y = flatten((*dropout_)((*bn2_)(y)));
        return (*features_)((*fc_)(cast(y, options_.dtype)));
    }
    const IResNetOptions& options() const { return options_; }

  private:
    IResNetOptions options_;
    std::shared_ptr<Conv2d> conv1_;
    std::shared_ptr<BatchNorm> bn1_;
    std::shared_ptr<PRelu> prelu_;
    std::vector<std::shared_ptr<IResNetBlock>> blocks_;  ///< of all four layers, in order
    std::shared_ptr<BatchNorm> bn2_;
    std::shared_ptr<Dropout> dropout_;
    std::shared_ptr<Linear> fc_;
    std::shared_ptr<BatchNorm> features_;
};

/// Multiply-accumulates of one image's forward pass, convolutions and the last linear only.
inline std::int64_t multiply_accumulates(const IResNetOptions& o) {
    std::int64_t side = o.image_size, in = o.stem, macs = 9 * 3 * o.stem * side * side;
    for (std::size_t s = 0; s < 4; ++s) {
        const std::int64_t c = o.channels[s];
        for (std::int64_t b = 0; b < o.blocks[s]; ++b) {
            macs += 9 * in * c * side * side;
            if (b == 0) side /= 2;
            macs += 9 * c * c * side * side;
            if (b == 0) macs += in * c * side * side;
            in = c;
        }
    }
    return macs + in * side * side * o.embedding_size;
}

/// A named network: "r18", "r34", "r50", "r100", "r200" as InsightFace defines them, and "iresnet_small" (channels
/// 32 to 256, one block a stage) for runs on a CPU. `base` gives the free sizes.
inline IResNetOptions iresnet_options(const std::string& name, IResNetOptions base = {}) {
    if (name == "iresnet_small") {
        base.blocks = {1, 1, 1, 1};
        base.stem = 32;
        base.channels = {32, 64, 128, 256};
        return base;
    }
    base.stem = 64;
    base.channels = {64, 128, 256, 512};
    if (name == "r18")
        base.blocks = {2, 2, 2, 2};
    else if (name == "r34")
        base.blocks = {3, 4, 6, 3};
    else if (name == "r50")
        base.blocks = {3, 4, 14, 3};
    else if (name == "r100")
        base.blocks = {3, 13, 30, 3};
    else if (name == "r200")
        base.blocks = {6, 26, 60, 6};
    else
        fail(ErrorCode::usage, "network", "unknown name; got ", name,
             ", want iresnet_small, r18, r34, r50, r100 or r200");
    return base;
}

/// The named network with freshly drawn weights.
inline std::shared_ptr<IResNet> iresnet(const std::string& name, const IResNetOptions& base = {}) {
    return std::make_shared<IResNet>(iresnet_options(name, base));
}

}  // namespace bf

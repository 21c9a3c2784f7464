#pragma once
#include <array>

#include "bf/nn/layers.hpp"

namespace bf {

/// Sizes of a MobileFaceNet as InsightFace builds it (reference networks-and-recipes D3; Chen et al. 2018). The named
/// ones are in mobilefacenet_options().
struct MobileFaceNetOptions {
    std::array<std::int64_t, 4> blocks{1, 4, 6, 2};  ///< of the four stages at S/2, S/4, S/8 and S/16
    std::int64_t scale = 2;                          ///< stages have width * scale channels, the last two twice as many
    std::int64_t width = 64;  ///< inside a block there are 2, 4 or 8 times as many, whatever the scale
    std::int64_t embedding_size = 512;
    std::int64_t image_size = 112;
    double dropout = 0;  ///< before the last linear; InsightFace has none
    std::uint64_t seed = 1;
    DType dtype = DType::f32;
    /// Of activations up to the last 1x1 convolution, which InsightFace keeps in f32 too; see IResNetOptions.
    DType compute = DType::f32;
    bool activation_checkpointing = false;  ///< of each block; see IResNetOptions
    Device device = cpu_device;
    bool fused = true;  ///< batch norm does the PReLU or the sum behind it in one pass over memory
};

namespace detail {

/// Convolution, batch norm and, where `active`, PReLU: "layers.0", "layers.1", "layers.2".
class MobileConv : public Module {
  public:
    MobileConv(Conv2dLayerOptions o, bool active, bool fused, Init& init)
        : fused_(fused), layers_(add_child("layers", std::make_shared<Sequential>())) {
        // Kaiming over the fan out, which PyTorch does not divide by the groups
        o.init_std = std::sqrt(2.0 / static_cast<double>(o.out * o.kernel * o.kernel));
        conv_ = layers_->add(std::make_shared<Conv2d>(o, init));
        norm_ = layers_->add(std::make_shared<BatchNorm>(BatchNormOptions{.channels = o.out}, init));
        if (active) prelu_ = layers_->add(std::make_shared<PRelu>(o.out, init));
    }
    Var forward(const Var& x) override {
        if (!prelu_ || !fused_) return (*layers_)(x);
        return norm_->forward((*conv_)(x), {.slope = prelu_->weight()});
    }
    /// With the sum behind it; not for active ones.
    Var forward(const Var& x, const Var& residual) {
        const Var y = (*conv_)(x);
        return fused_ ? norm_->forward(y, {.residual = residual}) : add((*norm_)(y), residual);
    }

  private:
    bool fused_;
    std::shared_ptr<Sequential> layers_;
    std::shared_ptr<Conv2d> conv_;
    std::shared_ptr<BatchNorm> norm_;
    std::shared_ptr<PRelu> prelu_;
};

/// 1x1 to `inside` channels, 3x3 on each alone, 1x1 to `out`; where `residual`, x is added.
class MobileBlock : public Module {
  public:
    MobileBlock(std::int64_t in, std::int64_t inside, std::int64_t out, std::int64_t stride, bool residual, bool fused,
                Init& init)
        : residual_(residual) {
        const auto layers = add_child("layers", std::make_shared<Sequential>());
        const auto put = [&](const Conv2dLayerOptions& o, bool active) {
            return layers->add(std::make_shared<MobileConv>(o, active, fused, init));
        };
        widen_ = put({.in = in, .out = inside, .kernel = 1, .pad = 0}, true);
        depthwise_ = put({.in = inside, .out = inside, .stride = stride, .groups = inside}, true);
        narrow_ = put({.in = inside, .out = out, .kernel = 1, .pad = 0}, false);
    }
    Var forward(const Var& x) override {
        const Var y = (*depthwise_)((*widen_)(x));
        return residual_ ? narrow_->forward(y, x) : (*narrow_)(y);
    }

  private:
    bool residual_;
    std::shared_ptr<MobileConv> widen_, depthwise_, narrow_;
};

/// What MobileFaceNet is made of, one call an element in order: conv(in, out, groups, stride) or
/// block(layer, in, inside, out, stride, residual), where `layer` counts the entries of "layers".
template <class Conv, class Block>
void visit_mobilefacenet(const MobileFaceNetOptions& o, Conv&& conv, Block&& block) {
    const std::int64_t w = o.width, c = w * o.scale;
    conv(3, c, 1, 2);
    if (o.blocks[0] == 1)
        conv(c, c, w, 1);  // not depthwise: `scale` channels a group
    else
        for (std::int64_t i = 0; i < o.blocks[0]; ++i) block(1, c, 2 * w, c, 1, true);
    block(2, c, 2 * w, c, 2, false);
    for (std::int64_t i = 0; i < o.blocks[1]; ++i) block(3, c, 2 * w, c, 1, true);
    block(4, c, 4 * w, 2 * c, 2, false);
    for (std::int64_t i = 0; i < o.blocks[2]; ++i) block(5, 2 * c, 4 * w, 2 * c, 1, true);
    block(6, 2 * c, 8 * w, 2 * c, 2, false);
    for (std::int64_t i = 0; i < o.blocks[3]; ++i) block(7, 2 * c, 4 * w, 2 * c, 1, true);
}

}  // namespace detail

/// Images [N, 3, S, S] (normalised to [-1, 1], RGB) to raw embeddings [N, D]. Parameter names are InsightFace's
/// (arcface_torch, mobilefacenet.py).
class MobileFaceNet : public Module {
  public:
    explicit MobileFaceNet(const MobileFaceNetOptions& o) : options_(o) {
        BF_CHECK(o.image_size >= 16 && o.image_size % 16 == 0, "mobilefacenet", "image size; got ", o.image_size,
                 ", want a multiple of 16");
        BF_CHECK(o.embedding_size > 0, "mobilefacenet", "embedding size; got ", o.embedding_size);
        Init init(o.seed, o.dtype, o.device);
        const auto layers = add_child("layers", std::make_shared<Sequential>());
        std::shared_ptr<Sequential> stage;  // "layers" of a row of blocks
        std::int64_t stage_layer = -1;
        detail::visit_mobilefacenet(
            o,
            [&](std::int64_t in, std::int64_t out, std::int64_t groups, std::int64_t stride) {
                stem_.push_back(layers->add(std::make_shared<detail::MobileConv>(
                    Conv2dLayerOptions{.in = in, .out = out, .stride = stride, .groups = groups}, true, o.fused,
                    init)));
            },
            [&](std::int64_t layer, std::int64_t in, std::int64_t inside, std::int64_t out, std::int64_t stride,
                bool residual) {
                if (residual && layer != stage_layer) {
                    stage = layers->add(std::make_shared<Stage>())->inner;
                    stage_layer = layer;
                }
                const auto made =
                    std::make_shared<detail::MobileBlock>(in, inside, out, stride, residual, o.fused, init);
                blocks_.push_back((residual ? stage : layers)->add(made));
            });
        const std::int64_t c = 2 * o.width * o.scale, last = 8 * o.width, side = o.image_size / 16;
        conv_sep_ = add_child(
            "conv_sep", std::make_shared<detail::MobileConv>(
                            Conv2dLayerOptions{.in = c, .out = last, .kernel = 1, .pad = 0}, true, o.fused, init));
        const auto features = add_child("features", std::make_shared<Stage>())->inner;
        global_ = features->add(std::make_shared<detail::MobileConv>(
            Conv2dLayerOptions{.in = last, .out = last, .kernel = side, .pad = 0, .groups = last}, false, o.fused,
            init));
        // entry 1 flattens, in InsightFace's numbering; dropout has no name there
        dropout_ = features->add(std::make_shared<Dropout>(o.dropout, o.seed));
        linear_ = features->add(
            std::make_shared<Linear>(LinearOptions{.in = last,
                                                   .out = o.embedding_size,
                                                   .bias = false,
                                                   .init_std = std::sqrt(2.0 / static_cast<double>(o.embedding_size))},
                                     init));
        norm_ = features->add(std::make_shared<BatchNorm>(BatchNormOptions{.channels = o.embedding_size}, init));
    }
    Var forward(const Var& x) override {
        BF_CHECK(x.shape().rank() == 4 && x.shape()[1] == 3 && x.shape()[2] == options_.image_size &&
                     x.shape()[3] == options_.image_size,
                 "mobilefacenet", "images; got ", x.value().str(), ", want [N, 3, ", options_.image_size, ", ",
                 options_.image_size, "]");
        Var y = options_.compute == DType::bf16 ? cast(x, DType::bf16) : x;
        for (const auto& conv : stem_) y = (*conv)(y);
        for (const auto& block : blocks_) y = options_.activation_checkpointing ? recompute(block, y) : (*block)(y);
        y = (*global_)((*conv_sep_)(cast(y, options_.dtype)));
        return (*norm_)((*linear_)((*dropout_)(flatten(y))));
    }
    const MobileFaceNetOptions& options() const { return options_; }

  private:
    /// A module whose parts are named "layers.0", "layers.1", ...; the network runs the parts itself.
    struct Stage : Module {
        Stage() : inner(add_child("layers", std::make_shared<Sequential>())) {}
        Var forward(const Var& x) override { return (*inner)(x); }
        std::shared_ptr<Sequential> inner;
    };

    MobileFaceNetOptions options_;
    std::vector<std::shared_ptr<detail::MobileConv>> stem_;
    std::vector<std::shared_ptr<detail::MobileBlock>> blocks_;  ///< of all layers, in order
    std::shared_ptr<detail::MobileConv> conv_sep_, global_;
    std::shared_ptr<Dropout> dropout_;
    std::shared_ptr<Linear> linear_;
    std::shared_ptr<BatchNorm> norm_;
};

/// Multiply-accumulates of one image's forward pass, convolutions and the last linear only.
inline std::int64_t multiply_accumulates(const MobileFaceNetOptions& o) {
    std::int64_t side = o.image_size, macs = 0;
    detail::visit_mobilefacenet(
        o,
        [&](std::int64_t in, std::int64_t out, std::int64_t groups, std::int64_t stride) {
            side /= stride;
            macs += 9 * (in / groups) * out * side * side;
        },
        [&](std::int64_t, std::int64_t in, std::int64_t inside, std::int64_t out, std::int64_t stride, bool) {
            macs += in * inside * side * side;
            side /= stride;
            macs += inside * (9 + out) * side * side;
        });
    const std::int64_t last = 8 * o.width;
    return macs + (2 * o.width * o.scale + 1) * last * side * side + last * o.embedding_size;
}

/// "mobilefacenet" and "mobilefacenet_large" (InsightFace's mbf and mbf_large). `base` gives the free sizes.
inline MobileFaceNetOptions mobilefacenet_options(const std::string& name, MobileFaceNetOptions base = {}) {
    const bool large = name == "mobilefacenet_large";
    BF_CHECK(large || name == "mobilefacenet", "network", "unknown name; got ", name,
             ", want mobilefacenet or mobilefacenet_large");
    base.blocks = large ? std::array<std::int64_t, 4>{2, 8, 12, 4} : std::array<std::int64_t, 4>{1, 4, 6, 2};
    base.scale = large ? 4 : 2;
    base.width = 64;
    return base;
}

}  // namespace bf

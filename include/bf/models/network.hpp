#pragma once
#include <algorithm>

#include "bf/models/iresnet.hpp"
#include "bf/models/mobilefacenet.hpp"
#include "bf/models/network_facts.hpp"
#include "bf/models/resnet.hpp"

namespace bf {

/// What all networks have in common; see IResNetOptions for the meaning of each.
struct NetworkOptions {
    std::int64_t embedding_size = 512;
    std::int64_t image_size = 0;  ///< 0: the network's own
    double dropout = 0;
    std::uint64_t seed = 1;
    DType compute = DType::f32;
    bool activation_checkpointing = false;
    Device device = cpu_device;
};

namespace detail {
template <class Options>
Options sized(const NetworkFacts& facts, const NetworkOptions& o) {
    Options made;
    made.embedding_size = o.embedding_size;
    made.image_size = o.image_size ? o.image_size : facts.image_size;
    made.dropout = o.dropout;
    made.seed = o.seed;
    made.compute = o.compute;
    made.activation_checkpointing = o.activation_checkpointing;
    made.device = o.device;
    BF_CHECK(image_size_fits(facts, made.image_size), "network", facts.name, ": image size; got ", made.image_size,
             ", want a multiple of ", facts.image_step, " in ", std::max(facts.image_step, facts.smallest), "..1024");
    return made;
}
/// f(options of the network's own type)
template <class F>
auto with_network(const std::string& name, const NetworkOptions& o, F&& f) {
    const NetworkFacts& facts = network_facts(name);
    if (facts.name == "resnet50") return f(sized<ResNetOptions>(facts, o));
    if (facts.name.rfind("mobilefacenet", 0) == 0)
        return f(mobilefacenet_options(facts.name, sized<MobileFaceNetOptions>(facts, o)));
    return f(iresnet_options(facts.name, sized<IResNetOptions>(facts, o)));
}
}  // namespace detail

/// The network of that name or alias with freshly drawn weights; a usage Error for a name or size that is not known.
inline std::shared_ptr<Module> make_network(const std::string& name, const NetworkOptions& options = {}) {
    struct Maker {
        std::shared_ptr<Module> operator()(const IResNetOptions& o) const { return std::make_shared<IResNet>(o); }
        std::shared_ptr<Module> operator()(const MobileFaceNetOptions& o) const {
            return std::make_shared<MobileFaceNet>(o);
        }
        std::shared_ptr<Module> operator()(const ResNetOptions& o) const { return std::make_shared<ResNet>(o); }
    };
    return detail::with_network(name, options, Maker{});
}

/// Multiply-accumulates of one image's forward pass, convolutions and the last linear only.
inline std::int64_t network_macs(const std::string& name, const NetworkOptions& options = {}) {
    return detail::with_network(name, options, [](const auto& o) { return multiply_accumulates(o); });
}

/// A tensor whose shape follows from the sizes, so that a file can be checked before a network is made of what it says.
struct NetworkHead {
    std::string name;  ///< of the last linear's weight
    Shape shape;       ///< [D, features]
};
inline NetworkHead network_head(const std::string& name, const NetworkOptions& options = {}) {
    struct Head {
        NetworkHead operator()(const IResNetOptions& o) const {
            const std::int64_t side = o.image_size / 16;
            return {"fc.weight", {o.embedding_size, o.channels.back() * side * side}};
        }
        NetworkHead operator()(const MobileFaceNetOptions& o) const {
            return {"features.layers.2.weight", {o.embedding_size, 8 * o.width}};
        }
        NetworkHead operator()(const ResNetOptions& o) const { return {"fc.weight", {o.embedding_size, 32 * o.width}}; }
    };
    return detail::with_network(name, options, Head{});
}

}  // namespace bf

#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "bf/data/input_format.hpp"

namespace bf {

/// What is known of a network before one is made.
struct NetworkFacts {
    std::string name, alias = {};   ///< alias: another name, as InsightFace says it; empty: none
    std::int64_t image_size = 112;  ///< pixels a side that it was designed for
    /// Other sizes: multiples of image_step from image_step (or smallest, where larger) to 1024.
    std::int64_t image_step = 16, smallest = 16;
    InputFormat input = {};
};

/// All networks that make_network() knows.
inline const std::vector<NetworkFacts>& networks() {
    static const std::vector<NetworkFacts> all{
        {.name = "iresnet_small"},
        {.name = "r18"},
        {.name = "r34"},
        {.name = "r50"},
        {.name = "r100"},
        {.name = "r200"},
        {.name = "mobilefacenet", .alias = "mbf"},
        {.name = "mobilefacenet_large", .alias = "mbf_large"},
        {.name = "resnet50", .image_size = 224, .smallest = 32, .input = imagenet_input()},
    };
    return all;
}

/// Their names.
inline std::vector<std::string> network_names(bool with_aliases = false) {
    std::vector<std::string> names;
    for (const NetworkFacts& f : networks()) {
        names.push_back(f.name);
        if (with_aliases && !f.alias.empty()) names.push_back(f.alias);
    }
    return names;
}

/// Facts of the network of that name or alias; a usage Error lists the names.
inline const NetworkFacts& network_facts(const std::string& name) {
    std::string known;
    for (const NetworkFacts& f : networks()) {
        if (name == f.name || (!name.empty() && name == f.alias)) return f;
        known += (known.empty() ? "" : ", ") + f.name;
    }
    fail(ErrorCode::usage, "network", "unknown name; got ", name, ", want one of ", known);
}

/// Whether a network takes images of that many pixels a side.
inline bool image_size_fits(const NetworkFacts& facts, std::int64_t size) {
    return size >= facts.smallest && size <= 1024 && size % facts.image_step == 0;
}

}  // namespace bf

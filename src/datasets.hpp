#pragma once
#include <memory>

#include "bf/data/dataset.hpp"
#include "bf/eval/verification.hpp"
#include "bf/nn/module.hpp"
#include "bf/train/config.hpp"

namespace bf::program {

/// The training images that a configuration names.
std::unique_ptr<Dataset> open_training_data(const RunConfig& config);

/// A verification set: images, and which of them are compared.
struct ValidationSet {
    std::string name;
    std::unique_ptr<Dataset> images;
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
    std::vector<char> same;
    std::vector<int> fold;  ///< protocol fold of each pair; empty: contiguous folds
    int folds = 10;
};

/// Opens the pairs that `val` describes.
ValidationSet open_validation(const ValConfig& val, const RunConfig& config);

/// Accuracy, TAR@FAR and ROC of one network on one set.
struct Verification {
    std::string name;
    VerificationResult folds;
    double auc = 0, eer = 0, tar_at_1e3 = 0, tar_at_1e2 = 0, x_norm = 0;
    std::vector<std::pair<double, double>> roc;  ///< (FAR, TAR), thinned for drawing
};

/// Embeds the images of a set (mirrored image added) and scores its pairs. `progress(done, total)` counts images.
Verification verify(Module& net, const ValidationSet& set, std::int64_t image_size,
                    const std::function<void(std::int64_t, std::int64_t)>& progress = {});

/// The same numbers for the trivial baseline: cosine of the grey pixels.
Verification verify_pixels(const ValidationSet& set, std::int64_t image_size);

}  // namespace bf::program

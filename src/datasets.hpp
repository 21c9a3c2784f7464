#pragma once
#include <functional>
#include <memory>

#include "bf/data/dataset.hpp"
#include "bf/data/input_format.hpp"
#include "bf/eval/roc.hpp"
#include "bf/eval/verification.hpp"
#include "bf/nn/module.hpp"
#include "bf/train/config.hpp"
#include "bf/train/metrics.hpp"

namespace bf::program {

/// The training images that a configuration names.
std::unique_ptr<Dataset> open_training_data(const RunConfig& config);

/// One line that tells two sets of training images apart: their number and a checksum over names (below data.root)
/// and labels, or what synthetic images are drawn from.
std::string describe_data(const RunConfig& config, const Dataset& data);

/// A verification set: images, and which of them are compared.
struct ValidationSet {
    std::string name;
    std::unique_ptr<Dataset> images;
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
    std::vector<char> same;
    std::vector<int> fold;  ///< 0-based fold of each pair
    int folds = 10;
};

/// Opens the pairs that `val` describes; synthetic faces are drawn at image_size. Pairs of a single fold are dealt
/// out to `folds` folds, same and different evenly.
ValidationSet open_validation(const ValConfig& val, std::int64_t image_size);

/// Accuracy, TAR@FAR and ROC of one network on one set.
struct Verification {
    std::string name;
    std::size_t pairs = 0;
    VerificationResult folds;
    FoldTar fold_tar;  ///< at FAR 1e-3
    double auc = 0, eer = 0, tar_at_1e3 = 0, tar_at_1e2 = 0, x_norm = 0;
    std::vector<std::pair<double, double>> roc;  ///< (FAR, TAR), thinned for drawing

    Record record(std::uint64_t step) const;
    std::string line() const;
};

/// Scores embeddings [images, D] of a set; x_norm is the mean raw norm to report.
Verification score(const ValidationSet& set, const Tensor& embeddings, double x_norm);

/// Embeds the images of a set (mirrored image added) and scores its pairs. `progress(done)` is called after each
/// batch; what it throws ends the work.
Verification verify(
    Module& net, const ValidationSet& set, std::int64_t image_size, const InputFormat& input,
    const std::function<void(std::int64_t)>& progress = [](std::int64_t) {});

/// The same numbers for the trivial baseline: cosine of mean-free grey pixels at 32 x 32.
Verification verify_pixels(const ValidationSet& set);

}  // namespace bf::program

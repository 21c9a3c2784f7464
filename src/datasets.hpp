#pragma once
#include <filesystem>
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
    std::vector<std::int64_t> subject;  ///< person of each compared item; empty: not known
    bool flip = true;                   ///< the mirror image is embedded too
    bool retrieval = false;             ///< each item is searched among all others too, by `subject`
    std::vector<std::string> items;     ///< names of the compared items, below the root; empty: drawn faces
    std::vector<std::string> notes;     ///< what the protocol promises and the list does not keep
    /// Of videos: item i is the mean of images [frames[i], frames[i + 1]). Empty: item i is image i.
    std::vector<std::int64_t> frames;

    std::string item(std::int64_t i) const;
};

/// Opens the pairs that `val` describes; synthetic faces are drawn at image_size. Pairs of a single fold are dealt
/// out to `folds` folds, same and different evenly. Kinds folder and omniglot have labels and no list of pairs: as many
/// same as different ones are drawn, the same ones every time.
ValidationSet open_validation(const ValConfig& val, std::int64_t image_size);

/// LFW's View 1: fold 0 are the pairs that the threshold is chosen on, fold 1 those that are tested.
ValidationSet open_lfw_view1(const std::filesystem::path& train, const std::filesystem::path& test,
                             const std::filesystem::path& root);

/// Accuracy, TAR@FAR and ROC of one network on one set.
struct Verification {
    std::string name;
    std::size_t pairs = 0;
    VerificationResult folds;
    FoldTar fold_tar;  ///< at FAR 1e-3
    double auc = 0, eer = 0, tar_at_1e3 = 0, tar_at_1e2 = 0, x_norm = 0;
    bool retrieval = false;
    double recall_at_1 = 0, map_at_r = 0;        ///< where `retrieval`: each item among all others
    std::vector<double> distances;               ///< of each pair: squared, of unit vectors
    std::vector<std::pair<double, double>> roc;  ///< (FAR, TAR), thinned for drawing

    Record record(std::uint64_t step) const;
    std::string line() const;
};

/// Scores embeddings [items, D] of a set; x_norm is the mean raw norm to report.
Verification score(const ValidationSet& set, const Tensor& embeddings, double x_norm);

/// Embeds the images of a set (mirrored image added, where set.flip) and scores its pairs. `progress(done)` is called
/// after each batch; what it throws ends the work.
Verification verify(
    Module& net, const ValidationSet& set, std::int64_t image_size, const InputFormat& input,
    const std::function<void(std::int64_t)>& progress = [](std::int64_t) {});

/// The same numbers for the trivial baseline, pixel_embeddings().
Verification verify_pixels(const ValidationSet& set);

/// Mean-free grey pixels at 32 x 32 of images [begin, end): [n, 1024] f32.
Tensor pixel_embeddings(const Dataset& images, std::int64_t begin, std::int64_t end);

}  // namespace bf::program

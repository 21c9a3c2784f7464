#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bf/models/network_facts.hpp"

namespace bf {

/// Where images come from.
struct DataConfig {
    std::string kind = "synthetic", root, list, sampler = "shuffle", alphabets, exclude_alphabets;
    std::vector<std::int64_t> only_folds, exclude_folds;
    std::int64_t min_images = 1, identities = 1000, images_per_identity = 20, first_identity = 0, cache_mb = 2048,
                 seed = 1, identity_images_per_batch = 4, identity_folds = 0;
    double difficulty = 1, max_bad_share = 0;
};

struct AugmentConfig {
    bool flip = true, crop_resize = false, erase_random = true;
    std::int64_t crop_pad = 0;
    double crop = 0, crop_min_area = 0.2, low_resolution = 0, low_resolution_min = 0.2, photometric = 1, brightness = 0,
           contrast = 0, saturation = 0, hue = 0, erase = 0, erase_min_area = 0.02, erase_max_area = 0.4,
           erase_min_aspect = 0.3;
};

struct BroadFaceConfig {
    std::int64_t queue = 0, start_step = 0, ramp_steps = 0, age_limit = 0, drift_rows = 128;
    bool compensate = true, direction_only = false, overwrite = false;
};

struct XbmConfig {
    std::int64_t queue = 8192, start_step = 1000;
    double weight = 1, margin = 0.5;
    bool compensate = false;
};

struct VplConfig {
    std::int64_t queue = 0, age_limit = 200, start_step = 8000;
    double lambda = 0.15;
};

/// Constants of heads that are more than a margin: see HeadRule (math/margin_head.hpp).
struct HeadConfig {
    std::int64_t centers = 3;
    double h = 0.333, t_alpha = 0.01, sigma = 0.05, l_a = 10, u_a = 110, l_m = 0.45, u_m = 0.8, lambda_g = 35;
    bool detached = false, easy_margin = true;
};

/// One verification set.
struct ValConfig {
    std::string name = "val", kind = "synthetic", root, pairs, alphabets;
    std::int64_t identity_folds = 0, only_fold = 0, folds = 10, pair_count = 6000, identities = 100,
                 images_per_identity = 20, first_identity = 1000000;
};

/// A training run. The names of arcface_torch are kept where it has one.
struct RunConfig {
    std::string network = "iresnet_small", loss = "arcface", margin_gradient = "exact", optimizer = "sgd",
                scheduler = "poly", output = "runs/run", pretrained, device = "cpu", precision = "auto",
                clip_scope = "backbone", memory = "broadface";
    std::int64_t embedding_size = 512, image_size = 112, batch_size = 128, gradient_acc = 1, warmup_epoch = 0,
                 warmup_step = 0, num_epoch = 20, num_step = 0, seed = 2048, num_workers = 2, threads = 0,
                 frequent = 10, verbose = 0, checkpoint_every = 500, keep_checkpoints = 2, kept_logits_mib = 0;
    double scale = 64, lr = 0.1, momentum = 0.9, weight_decay = 5e-4, lr_gamma = 0.1, clip_norm = 0, dropout = 0;
    bool nesterov = false, decay_norm_and_bias = true, deterministic = true, autotune = false, cuda_graph = false,
         activation_checkpointing = false, tensorboard = false, measure_classifier = false;
    std::vector<double> margin_list{1.0, 0.5, 0.0};
    std::vector<std::int64_t> lr_steps;
    DataConfig data;
    AugmentConfig augment;
    HeadConfig head;
    BroadFaceConfig broadface;
    XbmConfig xbm;
    VplConfig vpl;
    std::vector<ValConfig> val;
};

/// Calls key(name, member, meaning, lowest, highest) or choice(name, member, meaning, {words}) for each key of a
/// verification set: the one description that reading, writing, help and checks follow.
template <class V>
void visit_keys(ValConfig& c, V&& v) {
    v.text("name", c.name, "name in metrics and report");
    v.choice("kind", c.kind,
             "what the pairs are; folder (one sub-folder an identity) and omniglot: pairs drawn from the labels, and "
             "each image searched among all others (Recall@1, MAP@R)",
             {"synthetic", "lfw", "list", "bin", "cfp_fp", "cfp_ff", "agedb", "calfw", "cplfw", "ytf", "folder",
              "omniglot"});
    v.text("root", c.root, "folder that image paths are relative to; itself relative to the current folder");
    v.text("pairs", c.pairs,
           "pairs file, relative to the current folder: LFW's pairs.txt, lines `path1 path2 0|1`, InsightFace's .bin, "
           "CFP's folder Protocol, the lists of AgeDB, CALFW, CPLFW, YTF's splits.txt");
    v.text("alphabets", c.alphabets, "kind omniglot: alphabets taken, with commas between (none: all)");
    v.number("identity_folds", c.identity_folds, "kind folder: as data.identity_folds; only_fold then names one", 0,
             1000);
    v.number("only_fold", c.only_fold, "take this fold of the file alone (0: all)", 0, 1000);
    v.number("folds", c.folds, "folds of the accuracy when the file has none, or one is taken", 2, 1000);
    v.number("pair_count", c.pair_count, "synthetic: number of pairs; folder, omniglot: at most so many", 2, 1e8);
    v.number("identities", c.identities, "synthetic: identities", 2, 1e9);
    v.number("images_per_identity", c.images_per_identity, "synthetic: images of each", 2, 1e6);
    v.number("first_identity", c.first_identity, "synthetic: first identity; keep it apart from the training range", 0,
             1e12);
}

/// The same for a run.
template <class V>
void visit_keys(RunConfig& c, V&& v) {
    constexpr double big = 1e15;
    v.choice("network", c.network, "backbone", network_names(true));
    v.number("embedding_size", c.embedding_size, "D of the embeddings", 2, 65536);
    v.number("image_size", c.image_size, "pixels a side, a multiple of 16; not given: the network's usual size", 16,
             1024);
    v.number("dropout", c.dropout, "probability before the last linear", 0, 0.95);
    v.flag("activation_checkpointing", c.activation_checkpointing,
           "keep each block's input alone and run the block again in the backward pass: less memory, more time");
    v.text(
        "pretrained", c.pretrained,
        "model file or run whose weights the network starts from (bf import makes one of others' files), relative to "
        "the current folder; layers of another shape are drawn anew");
    v.choice("loss", c.loss, "margin head",
             {"arcface", "cosface", "combined", "sphereface", "softmax", "adaface", "elasticface_arc",
              "elasticface_cos", "magface", "curricularface", "subcenter_arcface"});
    v.numbers(
        "margin_list", c.margin_list,
        "m1, m2, m3: arcface and elasticface_arc have m2, cosface, elasticface_cos and adaface m3, sphereface m1, "
        "combined all, magface none (see head); not given: the loss's usual one");
    v.number("scale", c.scale, "s of the logits", 1e-3, 1e4);
    v.choice("margin_gradient", c.margin_gradient, "derivative of the target logit", {"exact", "straight-through"});
    v.number("batch_size", c.batch_size, "images of a micro-batch", 1, 1e6);
    v.number("gradient_acc", c.gradient_acc, "micro-batches of an optimizer step", 1, 1e6);
    v.choice("optimizer", c.optimizer, "update rule", {"sgd", "adamw", "adam"});
    v.number("lr", c.lr, "learning rate after the warm-up", 1e-12, 1e3);
    v.number("momentum", c.momentum, "of sgd", 0, 0.9999);
    v.flag("nesterov", c.nesterov, "Nesterov momentum");
    v.number("weight_decay", c.weight_decay, "on network and classifier", 0, 10);
    v.flag("decay_norm_and_bias", c.decay_norm_and_bias, "decay batch-norm weights, PReLU slopes and biases too");
    v.choice("scheduler", c.scheduler, "shape of the learning rate", {"poly", "step", "cosine", "constant"});
    v.number("warmup_epoch", c.warmup_epoch, "epochs of linear warm-up", 0, 1e6);
    v.number("warmup_step", c.warmup_step, "steps of linear warm-up, added to warmup_epoch", 0, big);
    v.number("num_epoch", c.num_epoch, "epochs to train", 1, 1e9);
    v.number("num_step", c.num_step, "optimizer steps to train; 0: from num_epoch", 0, big);
    v.numbers("lr_steps", c.lr_steps, "scheduler step: epochs at which lr is multiplied by lr_gamma");
    v.number("lr_gamma", c.lr_gamma, "scheduler step: factor", 1e-6, 1);
    v.number("clip_norm", c.clip_norm, "largest gradient norm; 0: no limit", 0, 1e9);
    v.choice("clip_scope", c.clip_scope, "what the norm is taken over", {"backbone", "all"});
    v.choice("memory", c.memory, "which memory of past embeddings is used, by the table of its name; the others rest",
             {"broadface", "xbm", "vpl"});
    v.number("seed", c.seed, "of weights, order and augmentation", 0, 9e15);
    v.choice("device", c.device, "where to train", {"cpu", "cuda"});
    v.choice("precision", c.precision, "of the network; auto: bf16 on a GPU that has it, else f32",
             {"auto", "f32", "tf32", "bf16"});
    v.flag("deterministic", c.deterministic, "cuda: same bits from run to run; false lets cuDNN take faster sums");
    v.flag("autotune", c.autotune, "cuda: time the ways to compute a convolution, once a shape");
    v.flag("cuda_graph", c.cuda_graph, "cuda: launch forward and backward pass as one graph, where shapes allow it");
    v.number(
        "kept_logits_mib", c.kept_logits_mib,
        "cpu: memory for logits that the classifier's gradients need not make again, in MiB; same bits with any; 0: a "
        "sixteenth of the machine's, at most 2,048",
        0, 1e6);
    v.number("num_workers", c.num_workers, "loader threads", 1, 256);
    v.number("threads", c.threads, "compute threads; 0: one a core", 0, 1024);
    v.text("output", c.output, "folder of the run, relative to the current folder");
    v.number("frequent", c.frequent, "steps between progress lines and metrics", 1, big);
    v.number("verbose", c.verbose, "steps between evaluations; 0: each epoch", 0, big);
    v.flag("tensorboard", c.tensorboard,
           "write the numbers of metrics.jsonl for TensorBoard too, into OUTPUT/events (tensorboard --logdir OUTPUT)");
    v.flag("measure_classifier", c.measure_classifier,
           "at the end encode all training images and look how far the classifier is from the best one for them (about "
           "a hundred passes of the classifier over all of them)");
    v.number("checkpoint_every", c.checkpoint_every, "steps between checkpoints", 1, big);
    v.number("keep_checkpoints", c.keep_checkpoints, "newest checkpoints kept", 1, 1e6);
    v.choice("data.kind", c.data.kind, "training images", {"synthetic", "folder", "list", "record", "omniglot"});
    v.text("data.root", c.data.root,
           "image folder, relative to the current folder; kind record: folder of train.rec, or a .rec file");
    v.text("data.list", c.data.list, "kind list: file of path<TAB>label[<TAB>fold], relative to the current folder");
    v.numbers("data.only_folds", c.data.only_folds,
              "kind list, and folder with identity_folds: folds taken (none: all)");
    v.numbers("data.exclude_folds", c.data.exclude_folds, "the same: folds left out");
    v.number("data.identity_folds", c.data.identity_folds,
             "kind folder: identities are dealt out in the order of their names to folds 1 to this; 0: no folds", 0,
             1000);
    v.text("data.alphabets", c.data.alphabets, "kind omniglot: alphabets taken, with commas between (none: all)");
    v.text("data.exclude_alphabets", c.data.exclude_alphabets, "kind omniglot: alphabets left out");
    v.choice("data.sampler", c.data.sampler, "shuffle: each image once an epoch; balanced: batches of few identities",
             {"shuffle", "balanced"});
    v.number("data.identity_images_per_batch", c.data.identity_images_per_batch,
             "sampler balanced: images of each of a batch's batch_size / this identities", 1, 1e6);
    v.number("data.min_images", c.data.min_images, "identities with fewer images are left out", 1, 1e6);
    v.number("data.cache_mb", c.data.cache_mb, "kinds folder and list: decoded images kept in memory, MiB", 0, 1e9);
    v.number("data.max_bad_share", c.data.max_bad_share, "share of unreadable images that may be replaced", 0, 1);
    v.number("data.identities", c.data.identities, "kind synthetic: identities", 2, 1e9);
    v.number("data.images_per_identity", c.data.images_per_identity, "kind synthetic: images of each", 1, 1e6);
    v.number("data.first_identity", c.data.first_identity, "kind synthetic: first identity", 0, 1e12);
    v.number("data.seed", c.data.seed, "kind synthetic: seed of the faces", 0, 9e15);
    v.number("data.difficulty", c.data.difficulty, "kind synthetic: strength of pose, light, occlusion and noise", 0,
             3);
    v.flag("augment.flip", c.augment.flip, "mirror with probability 1/2");
    v.number("augment.crop", c.augment.crop, "probability of a random crop (AdaFace: 0.2)", 0, 1);
    v.number("augment.crop_min_area", c.augment.crop_min_area, "smallest share of the image that a crop keeps", 0.01,
             1);
    v.flag("augment.crop_resize", c.augment.crop_resize,
           "the crop grows to the whole (torchvision); else it stays where it is, black around it (AdaFace)");
    v.number("augment.crop_pad", c.augment.crop_pad, "shift by up to this many pixels, edges repeated", 0, 64);
    v.number("augment.low_resolution", c.augment.low_resolution,
             "probability of shrinking and growing back by random interpolations (AdaFace: 0.2)", 0, 1);
    v.number("augment.low_resolution_min", c.augment.low_resolution_min, "smallest share of the side", 0.01, 1);
    v.number("augment.photometric", c.augment.photometric, "probability of the next four together (AdaFace: 0.2)", 0,
             1);
    v.number("augment.brightness", c.augment.brightness, "times 1 +- this (AdaFace: 0.5, and the next two)", 0, 1);
    v.number("augment.contrast", c.augment.contrast, "contrast 1 +- this", 0, 1);
    v.number("augment.saturation", c.augment.saturation, "saturation 1 +- this", 0, 1);
    v.number("augment.hue", c.augment.hue, "hue turned by up to this part of the circle", 0, 0.5);
    v.number("augment.erase", c.augment.erase, "probability of an erased rectangle", 0, 1);
    v.number("augment.erase_min_area", c.augment.erase_min_area, "smallest share of the image", 0.001, 1);
    v.number("augment.erase_max_area", c.augment.erase_max_area, "largest share of the image", 0.001, 1);
    v.number("augment.erase_min_aspect", c.augment.erase_min_aspect, "aspect from this to its inverse", 0.05, 1);
    v.flag("augment.erase_random", c.augment.erase_random, "erase by random values; else by grey");
    v.number("head.centers", c.head.centers, "subcenter_arcface: rows of the classifier an identity", 1, 1000);
    v.number("head.h", c.head.h, "adaface: margin's change a standard deviation of the norms", 0, 1e3);
    v.number("head.t_alpha", c.head.t_alpha, "adaface: share of a batch in mean and deviation of the norms", 0, 1);
    v.number("head.sigma", c.head.sigma, "elasticface: standard deviation of the margin", 0, 10);
    v.number("head.l_a", c.head.l_a, "magface: norm of the smallest margin", 1e-6, 1e6);
    v.number("head.u_a", c.head.u_a, "magface: norm of the largest margin", 1e-6, 1e6);
    v.number("head.l_m", c.head.l_m, "magface: smallest margin", 0, 3);
    v.number("head.u_m", c.head.u_m, "magface: largest margin", 0, 3);
    v.number("head.lambda_g", c.head.lambda_g, "magface: weight of the penalty on norms", 0, 1e6);
    v.flag("head.detached", c.head.detached, "magface: margins without gradient; false: as the authors' code");
    v.flag("head.easy_margin", c.head.easy_margin, "magface: no margin where the cosine is not positive");
    v.number("broadface.queue", c.broadface.queue, "rows of the embedding queue; 0: plain training", 0, 1e8);
    v.flag("broadface.compensate", c.broadface.compensate, "move old embeddings with their identity's weights");
    v.number("broadface.start_step", c.broadface.start_step, "step from which the queue is used", 0, big);
    v.number("broadface.ramp_steps", c.broadface.ramp_steps, "steps over which the used part grows", 0, big);
    v.number("broadface.age_limit", c.broadface.age_limit, "oldest age used, steps; 0: no limit", 0, big);
    v.flag("broadface.direction_only", c.broadface.direction_only, "compensate by the direction of the weights alone");
    v.flag("broadface.overwrite", c.broadface.overwrite, "variant: write the compensated rows back");
    v.number(
        "broadface.drift_rows", c.broadface.drift_rows,
        "queue rows whose batches are encoded again at each evaluation, in whole batches and at least ten of them: "
        "the error of stored and of compensated rows by age; 0: none",
        0, 1e8);
    v.number("xbm.queue", c.xbm.queue, "rows of past embeddings that the batch is paired with, beside itself", 1, 1e8);
    v.number("xbm.weight", c.xbm.weight, "of the pair loss beside the encoder's loss", 0, 1e6);
    v.number("xbm.margin", c.xbm.margin, "cosine above which a pair of two identities costs something", -1, 1);
    v.number("xbm.start_step", c.xbm.start_step, "step from which the pair loss counts; the queue fills before", 0,
             big);
    v.flag("xbm.compensate", c.xbm.compensate, "variant: move old embeddings with their identity's weights");
    v.number("vpl.queue", c.vpl.queue, "rows of past embeddings; 0: age_limit times the images of a step", 0, 1e8);
    v.number("vpl.lambda", c.vpl.lambda, "share of the newest embedding in an identity's weights", 0, 0.999);
    v.number("vpl.age_limit", c.vpl.age_limit, "oldest age used, steps; 0: no limit", 0, big);
    v.number("vpl.start_step", c.vpl.start_step, "step from which weights are mixed; the queue fills before", 0, big);
}

}  // namespace bf

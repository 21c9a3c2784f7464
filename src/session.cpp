#include "session.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "bf/base/version.hpp"
#include "bf/data/loader.hpp"
#include "bf/io/checkpoint.hpp"
#include "bf/kernels/dispatch.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/train/progress.hpp"
#include "bf/train/trainer.hpp"
#include "config_toml.hpp"
#include "report.hpp"

namespace bf::program {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::unique_ptr<Optimizer> optimizer_of(const RunConfig& c, const IResNet& net, const Var& w) {
    const bool all = c.clip_scope == "all";
    std::vector<ParameterGroup> groups(2);
    groups[0] = {.parameters = net.parameters(),
                 .weight_decay = c.weight_decay,
                 .decay_norm_and_bias = c.decay_norm_and_bias,
                 .clip_norm = all ? 0 : c.clip_norm};
    groups[1] = {.parameters = {Parameter{"classifier.weight", w}}, .weight_decay = c.weight_decay};
    const double clip = all ? c.clip_norm : 0;
    if (c.optimizer == "adamw") return std::make_unique<AdamW>(std::move(groups), AdamWOptions{.clip_norm = clip});
    return std::make_unique<Sgd>(std::move(groups),
                                 SgdOptions{.momentum = c.momentum, .nesterov = c.nesterov, .clip_norm = clip});
}

Schedule schedule_of(const RunConfig& c, std::uint64_t steps_per_epoch, std::uint64_t total) {
    Schedule s{.lr = c.lr,
               .warmup_steps = static_cast<std::uint64_t>(c.warmup_epoch) * steps_per_epoch +
                               static_cast<std::uint64_t>(c.warmup_step),
               .total_steps = total,
               .gamma = c.lr_gamma};
    s.kind = c.scheduler == "poly"     ? ScheduleKind::poly
             : c.scheduler == "step"   ? ScheduleKind::step
             : c.scheduler == "cosine" ? ScheduleKind::cosine
                                       : ScheduleKind::constant;
    for (const std::int64_t epoch : c.lr_steps)
        s.milestones.push_back(static_cast<std::uint64_t>(epoch) * steps_per_epoch);
    BF_CHECK(s.warmup_steps < total, "warmup", "got ", s.warmup_steps, " steps of ", total, " in all");
    return s;
}

std::map<std::string, std::string> model_metadata(const RunConfig& c) {
    return {{"bf.version", version},
            {"bf.network", c.network},
            {"bf.embedding_size", std::to_string(c.embedding_size)},
            {"bf.image_size", std::to_string(c.image_size)},
            {"bf.input", "RGB, (x / 255 - 0.5) / 0.5"}};
}

/// Encodes images as training does (batch statistics) and leaves the running statistics as they were.
Tensor encode_as_training(IResNet& net, const Tensor& images) {
    std::vector<Tensor> before;
    for (const auto& [name, buffer] : net.buffers()) before.push_back(buffer.clone());
    const NoGrad no_grad;
    net.train();
    const Tensor e = net(Var(images)).value();
    const auto buffers = net.buffers();
    for (std::size_t i = 0; i < before.size(); ++i) buffers[i].second.copy_from(before[i]);
    return e;
}

/// Holds a run's folder for one process. Without it a second trainer would write over the first one's files.
class FolderLock {
  public:
    explicit FolderLock(const std::filesystem::path& folder) {
        descriptor_ = ::open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail(ErrorCode::runtime, folder.string(), "cannot be written: ", std::strerror(errno));
        // file systems that know no locks are used without
        if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
        ::close(descriptor_);
        fail(ErrorCode::usage, folder.string(),
             "is being trained in by another process; hint: wait for it, or --output names another folder");
    }
    ~FolderLock() { ::close(descriptor_); }
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

  private:
    int descriptor_ = -1;
};

/// Prints what differs from the configuration of the checkpoint; refuses what cannot be continued.
void compare_settings(const RunConfig& before, const RunConfig& now, Progress& progress) {
    // the state has other shapes, the order of images another meaning, or the data is another
    static const std::set<std::string> fixed{"network",
                                             "embedding_size",
                                             "image_size",
                                             "batch_size",
                                             "gradient_acc",
                                             "optimizer",
                                             "seed",
                                             "data.kind",
                                             "data.only_folds",
                                             "data.exclude_folds",
                                             "data.min_images",
                                             "data.identities",
                                             "data.first_identity",
                                             "data.images_per_identity",
                                             "data.seed",
                                             "data.difficulty"};
    for (const ChangedKey& c : changed_keys(before, now)) {
        BF_CHECK(!fixed.count(c.key), "--resume", c.key, " cannot change in a run; got ", c.now, ", want ", c.before,
                 "; hint: a new run with --output");
        if (c.key != "output") progress.line("changed: " + c.key + " = " + c.now + " (was " + c.before + ")");
    }
}

/// Texts as one JSON list, for a checkpoint's metadata.
std::string to_json(const std::set<std::string>& texts) {
    std::string list;
    for (const std::string& text : texts) list += (list.empty() ? "" : ",") + json_quote(text);
    return "[" + list + "]";
}

/// The name that a run has in its report.
std::string title_of(const std::filesystem::path& folder) {
    const std::filesystem::path full = std::filesystem::absolute(folder).lexically_normal();
    return (full.has_filename() ? full : full.parent_path()).filename().string();
}

Record queue_record(BroadFace& broad, IResNet& net, const Var& w, const Dataset& data, const RunConfig& c,
                    std::uint64_t step) {
    const QueueTelemetry t = broad.telemetry(w.value(), step);
    Record r("queue");
    r.put("step", static_cast<double>(step))
        .put("rows", static_cast<double>(t.rows))
        .put("distinct", static_cast<double>(t.distinct))
        .put("mean_age", t.mean_age)
        .put("norm_ratio", t.norm_ratio);
    std::vector<std::int64_t> slots;
    const std::vector<std::int64_t> images = broad.sample_indices(128, slots);
    if (images.size() > 1) {
        const Tensor now = encode_as_training(net, load_images(data, images, static_cast<int>(c.image_size)));
        const QueueDrift drift = broad.drift(w.value(), now, slots);
        r.put("cos_compensated", drift.compensated).put("cos_plain", drift.plain);
    }
    return r;
}

}  // namespace

Margin margin_of(const RunConfig& c) {
    const double m1 = c.margin_list[0], m2 = c.margin_list[1], m3 = c.margin_list[2];
    Margin m = c.loss == "arcface"      ? arcface(c.scale, m2)
               : c.loss == "cosface"    ? cosface(c.scale, m3)
               : c.loss == "combined"   ? combined_margin(c.scale, m1, m2, m3)
               : c.loss == "sphereface" ? sphereface(c.scale, static_cast<int>(m1))
                                        : normalized_softmax(c.scale);
    m.gradient = c.margin_gradient == "exact" ? MarginGradient::exact : MarginGradient::straight_through;
    return m;
}

std::shared_ptr<IResNet> network_of(const RunConfig& c) {
    return iresnet(c.network, {.embedding_size = c.embedding_size,
                               .image_size = c.image_size,
                               .dropout = c.dropout,
                               .seed = static_cast<std::uint64_t>(c.seed)});
}

SessionResult run_session(const RunConfig& config, const SessionOptions& options) {
    RunConfig c = config;
    if (c.device == "cuda") {
        context({DeviceType::cuda, 0});  // throws where the build or the machine has no GPU
        fail(ErrorCode::usage, "device", "cuda: the trainer of this version runs on the cpu; hint: device = \"cpu\"");
    }
    // the run's own config.toml is read again from wherever --resume is called
    std::vector<std::string*> paths{&c.data.root, &c.data.list};
    for (ValConfig& v : c.val) paths.insert(paths.end(), {&v.root, &v.pairs});
    for (std::string* path : paths)
        if (!path->empty()) *path = std::filesystem::absolute(*path).lexically_normal().string();
    if (c.threads > 0) cpu_pool().resize(static_cast<int>(c.threads));
    namespace fs = std::filesystem;
    const fs::path folder = c.output;
    for (const char* name : {"config.toml", "metrics.jsonl", "checkpoints"})
        BF_CHECK(options.resume || !fs::exists(folder / name), folder.string(), "holds ", name,
                 " already; hint: --output names another folder, --resume ", folder.string(), " continues a run");
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail(ErrorCode::runtime, folder.string(), "cannot be made: ", error.message());
    const FolderLock lock(folder);
    CheckpointFolder checkpoints(folder / "checkpoints", static_cast<int>(c.keep_checkpoints));

    const std::unique_ptr<Dataset> data = open_training_data(c);
    const Augment augment{c.augment.flip,
                          static_cast<int>(c.augment.crop_pad),
                          static_cast<float>(c.augment.brightness),
                          static_cast<float>(c.augment.contrast),
                          static_cast<float>(c.augment.saturation),
                          static_cast<float>(c.augment.erase),
                          static_cast<float>(c.augment.low_resolution)};
    Loader loader(*data, {.batch_size = c.batch_size,
                          .image_size = static_cast<int>(c.image_size),
                          .seed = static_cast<std::uint64_t>(c.seed),
                          .workers = static_cast<int>(c.num_workers),
                          .augment = augment,
                          .max_bad_share = c.data.max_bad_share});
    std::vector<ValidationSet> sets;
    for (const ValConfig& v : c.val) sets.push_back(open_validation(v, c.image_size));

    const auto net = network_of(c);
    const Var w =
        Var::leaf(Init(static_cast<std::uint64_t>(c.seed) + 1).normal({data->identities(), c.embedding_size}, 0.01));
    const std::unique_ptr<Optimizer> optimizer = optimizer_of(c, *net, w);
    const auto micro = static_cast<std::uint64_t>(c.gradient_acc);
    const std::uint64_t per_epoch = std::max<std::uint64_t>(1, loader.batches_per_epoch() / micro);
    const std::uint64_t total =
        c.num_step ? static_cast<std::uint64_t>(c.num_step) : per_epoch * static_cast<std::uint64_t>(c.num_epoch);
    const BroadFaceConfig& b = c.broadface;
    BroadFace broad({.queue = b.queue,
                     .compensate = b.compensate,
                     .start_step = static_cast<std::uint64_t>(b.start_step),
                     .ramp_steps = static_cast<std::uint64_t>(b.ramp_steps),
                     .age_limit = static_cast<std::uint64_t>(b.age_limit),
                     .direction_only = b.direction_only,
                     .overwrite = b.overwrite},
                    c.embedding_size);
    Trainer<BroadFace> trainer(
        *net, w, *optimizer,
        {.margin = margin_of(c), .schedule = schedule_of(c, per_epoch, total), .want_gradient_norm = true}, broad);

    std::ostream silent(nullptr);
    Progress progress(options.progress ? *options.progress : silent, options.terminal);
    double trained = 0;
    std::uint64_t saved = 0;  // step of the newest checkpoint
    std::uint64_t metrics_kept = 0;
    const std::string data_facts = describe_data(c, *data);
    // sums since the last record: loss, classifier loss, accuracy, steps
    const Tensor sums = Tensor::zeros({4}, {.dtype = DType::f64});
    double *loss = sums.data<double>(), *loss_cls = loss + 1, *accuracy = loss + 2, *counted = loss + 3;
    if (options.resume) {
        std::vector<std::string> warnings;
        auto found = checkpoints.load_latest(&warnings);
        for (const std::string& line : warnings) progress.line("warning: skipped " + line);
        if (found) {
            const StateDict& state = found->content.tensors;
            auto& metadata = found->content.metadata;
            for (const char* key : {"bf.config", "bf.dataset", "bf.bad_images"})
                BF_CHECK_DATA(metadata.count(key), found->path.string(), "has no ", key,
                              " in its metadata; hint: is it a checkpoint of bf train, of this version?");
            compare_settings(parse_config(metadata["bf.config"], found->path.string()), c, progress);
            BF_CHECK_DATA(metadata["bf.dataset"] == data_facts, found->path.string(),
                          "the training images are not those of the run; got ", data_facts, ", want ",
                          metadata["bf.dataset"], "; hint: put the images back, or start a new run");
            trainer.load_state(state);
            if (const auto queue = state.find("queue.indices"); queue != state.end())
                for (const std::int64_t i : queue->second.span<std::int64_t>())
                    BF_CHECK_DATA(i < data->size(), found->path.string(), "the queue names image ", i, " of ",
                                  data->size());
            const Tensor at = Tensor::zeros({2}, {.dtype = DType::i64}), length = Tensor::zeros({1}, at.options()),
                         seconds = Tensor::zeros({1}, {.dtype = DType::f64});
            load_tensor(state, "loader.position", at);
            load_tensor(state, "session.metrics", length);
            load_tensor(state, "session.seconds", seconds);
            load_tensor(state, "session.sums", sums);
            loader.seek({static_cast<std::uint64_t>(at.data<std::int64_t>()[0]),
                         static_cast<std::uint64_t>(at.data<std::int64_t>()[1])});
            std::set<std::string> bad;
            for (const Json& text : parse_json(metadata["bf.bad_images"], found->path.string()).array)
                bad.insert(text.string);
            loader.count_bad_images(bad);
            metrics_kept = static_cast<std::uint64_t>(length.data<std::int64_t>()[0]);
            trained = seconds.item();
            saved = trainer.steps();
            progress.line("resumed from " + found->path.string());
            // a finished run that goes on: its model is not that of the newest step any more
            if (saved < total) fs::remove(folder / "model.safetensors", error);
        } else {
            if (const auto files = checkpoints.list(); !files.empty())
                fail(ErrorCode::data, folder.string(), "no checkpoint is intact; got ", files.size(),
                     " damaged in checkpoints/; hint: move checkpoints/ away to start again");
            progress.line("no checkpoint yet in " + folder.string() + ": starting from the beginning");
        }
    }
    checkpoints.collect_leftovers();
    write_file(folder / "config.toml", to_toml(c));
    Metrics metrics(folder / "metrics.jsonl", metrics_kept);
    char facts[256];
    std::snprintf(facts, sizeof facts, "%s (%.1f M parameters), %lld identities, %lld images, queue %lld, %llu steps",
                  c.network.c_str(), 1e-6 * static_cast<double>(net->parameter_count()),
                  static_cast<long long>(data->identities()), static_cast<long long>(data->size()),
                  static_cast<long long>(b.queue), static_cast<unsigned long long>(total));
    progress.line(facts);

    std::set<std::string> bad = loader.bad_images();
    const auto warn_of_bad_images = [&] {
        if (loader.bad_images().size() == bad.size()) return;
        for (const std::string& image : loader.bad_images())
            if (bad.insert(image).second) progress.line("warning: " + image);
    };
    std::size_t listed = 0;
    const auto list_bad_images = [&] {
        if (bad.size() == listed) return;
        std::string lines;
        for (const std::string& image : bad) lines += image + "\n";
        write_file(folder / "bad_images.txt", lines);
        listed = bad.size();
    };
    // A checkpoint stands before the evaluation of its step: what follows it in metrics.jsonl is done again.
    const auto save = [&] {
        list_bad_images();
        StateDict state = trainer.state();
        const LoaderPosition at = loader.position();
        state["loader.position"] =
            Tensor::from<std::int64_t>({static_cast<std::int64_t>(at.epoch), static_cast<std::int64_t>(at.batch)}, {2});
        state["session.seconds"] = full({1}, trained, DType::f64);
        state["session.sums"] = sums;
        state["session.metrics"] = Tensor::from<std::int64_t>({static_cast<std::int64_t>(metrics.bytes())}, {1});
        auto metadata = model_metadata(c);
        metadata["bf.config"] = to_toml(c);
        metadata["bf.dataset"] = data_facts;
        metadata["bf.bad_images"] = to_json(bad);
        checkpoints.save(trainer.steps(), state, metadata);
        saved = trainer.steps();
    };
    const auto stop_asked = [&] { return options.stop && *options.stop; };
    const auto stop_here = [&] {
        if (saved != trainer.steps()) save();
        progress.finish();
        fail(ErrorCode::stopped, folder.string(), "stopped by a signal at step ", trainer.steps(),
             " with a checkpoint written; hint: bf train --resume ", folder.string());
    };
    SessionResult result{.last = {}, .folder = folder};
    const auto evaluate = [&] {
        struct Stopped {};
        result.last.clear();
        try {
            for (const ValidationSet& set : sets) {
                result.last.push_back(verify(*net, set, c.image_size, [&](std::int64_t) {
                    if (stop_asked()) throw Stopped{};
                }));
                progress.line("step " + std::to_string(trainer.steps()) + "  " + result.last.back().line());
            }
        } catch (const Stopped&) {
            stop_here();
        }
        // all sets at once: one that was stopped leaves no record
        for (const Verification& v : result.last) metrics.add(v.record(trainer.steps()));
        if (b.queue > 0) metrics.add(queue_record(broad, *net, w, *data, c, trainer.steps()));
    };

    const std::uint64_t every = c.verbose ? static_cast<std::uint64_t>(c.verbose) : per_epoch;
    const auto evaluation_due = [&] {  // the last step's stands after the loop
        return trainer.steps() > 0 && trainer.steps() % every == 0 && trainer.steps() < total;
    };
    if (evaluation_due()) evaluate();

    double wait = 0;
    std::uint64_t timed = 0;  // steps since `mark`
    auto mark = Clock::now();
    while (trainer.steps() < total) {
        const auto began = Clock::now();
        std::vector<TrainBatch> batches;
        std::uint64_t epoch = 0;
        for (std::uint64_t m = 0; m < micro; ++m) {
            const Batch batch = loader.next();
            wait += batch.wait_seconds;
            epoch = batch.epoch;
            batches.push_back({batch.images, batch.labels, batch.indices});
        }
        warn_of_bad_images();
        const StepReport report = trainer.step(batches);
        trained += since(began);
        *loss += report.loss;
        *loss_cls += report.classifier_loss;
        *accuracy += report.accuracy;
        *counted += 1;
        ++timed;
        const std::uint64_t step = trainer.steps();
        if (step % static_cast<std::uint64_t>(c.frequent) == 0 || step == total) {
            const double span = since(mark), n = *counted;
            const double speed = static_cast<double>(timed) * static_cast<double>(c.batch_size * c.gradient_acc) / span;
            metrics.add(Record("step")
                            .put("step", static_cast<double>(step))
                            .put("epoch", static_cast<double>(epoch))
                            .put("loss", *loss / n)
                            .put("loss_cls", *loss_cls / n)
                            .put("accuracy", *accuracy / n)
                            .put("lr", report.lr)
                            .put("grad_norm", report.gradient_norm)
                            .put("images_per_s", speed)
                            .put("data_wait", wait / span)
                            .put("queue", static_cast<double>(broad.size()))
                            .put("bad_images", static_cast<double>(bad.size())));
            list_bad_images();
            progress.show({step, total, epoch, *loss / n, report.lr, speed, wait / span, broad.size(), b.queue});
            std::fill_n(loss, 4, 0.0);
            wait = 0;
            timed = 0;
            mark = Clock::now();
        }
        if (step % static_cast<std::uint64_t>(c.checkpoint_every) == 0 || step == total) save();
        if (stop_asked() && step < total) stop_here();
        if (evaluation_due()) {
            evaluate();
            wait = 0;
            timed = 0;
            mark = Clock::now();
        }
    }
    evaluate();
    metrics.add(Record("end")
                    .put("step", static_cast<double>(trainer.steps()))
                    .put("seconds", trained)
                    .put("peak_bytes", static_cast<double>(cpu_allocator().stats().peak)));
    progress.finish();
    save_safetensors(folder / "model.safetensors", net->state(), model_metadata(c));
    write_report(folder / "report.html", title_of(folder), {{title_of(folder), "", folder}});
    result.seconds = trained;
    result.steps = trainer.steps();
    return result;
}

std::shared_ptr<IResNet> load_model(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    fs::path file = path;
    std::string prefix;
    if (fs::is_directory(path)) {
        file = path / "model.safetensors";
        if (!fs::exists(file)) {
            BF_CHECK_DATA(fs::is_directory(path / "checkpoints"), path.string(),
                          "is not a run: neither model.safetensors nor checkpoints/");
            const auto found = CheckpointFolder(path / "checkpoints").load_latest();
            BF_CHECK_DATA(found, path.string(), "has no intact checkpoint");
            file = found->path;
        }
    }
    SafeTensors content = load_safetensors(file);
    auto& metadata = content.metadata;
    BF_CHECK_DATA(metadata.count("bf.network"), file.string(),
                  "names no network in its metadata; hint: want a model.safetensors of a bf run");
    const auto number = [&](const char* key) {
        return static_cast<std::int64_t>(std::strtoll(metadata[key].c_str(), nullptr, 10));
    };
    StateDict state = content.tensors;
    if (content.tensors.count("trainer.steps")) {
        state.clear();
        for (const auto& [name, tensor] : content.tensors)
            if (name.rfind("net.", 0) == 0) state[name.substr(4)] = tensor;
    }
    // a file may say anything: its sizes are checked before a network of them is made
    const std::int64_t dim = number("bf.embedding_size"), size = number("bf.image_size");
    BF_CHECK_DATA(dim >= 2 && dim <= 65536 && size >= 16 && size <= 1024 && size % 16 == 0, file.string(),
                  "sizes in the metadata; got embedding_size ", dim, ", image_size ", size,
                  ", want 2..65536 and a multiple of 16 in 16..1024");
    IResNetOptions shape;
    try {
        shape = iresnet_options(metadata["bf.network"], {.embedding_size = dim, .image_size = size});
    } catch (const Error& e) {
        fail(ErrorCode::data, file.string(), e.what());
    }
    const Shape want{dim, shape.channels.back() * (size / 16) * (size / 16)};
    const auto fc = state.find("fc.weight");
    BF_CHECK_DATA(fc != state.end() && fc->second.shape() == want, file.string(), "fc.weight; got ",
                  fc == state.end() ? "none" : fc->second.str(), ", want ", want.str(), " (", metadata["bf.network"],
                  " of the metadata)");
    auto net = std::make_shared<IResNet>(shape);
    net->load_state(state);
    net->eval();
    return net;
}

}  // namespace bf::program

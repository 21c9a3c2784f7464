#include "session.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <numeric>
#include <set>

#include "bf/data/loader.hpp"
#include "bf/io/checkpoint.hpp"
#include "bf/io/event_file.hpp"
#include "bf/optim/broadface.hpp"
#include "bf/train/classifier_measure.hpp"
#include "bf/train/embed.hpp"
#include "bf/train/progress.hpp"
#include "bf/train/queue_drift.hpp"
#include "bf/train/trainer.hpp"
#include "bf/train/upload.hpp"
#include "config_toml.hpp"
#include "folder_lock.hpp"
#include "model.hpp"
#include "report.hpp"
#include "run_parts.hpp"

namespace bf::program {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Prints what differs from the configuration of the checkpoint; refuses what cannot be continued.
void compare_settings(const RunConfig& before, const RunConfig& now, Progress& progress) {
    // the state has other shapes, the order of images another meaning, or the data is another
    static const std::set<std::string> fixed{"network",
                                             "embedding_size",
                                             "image_size",
                                             "batch_size",
                                             "gradient_acc",
                                             "optimizer",
                                             "head.centers",
                                             "seed",
                                             "data.kind",
                                             "data.only_folds",
                                             "data.exclude_folds",
                                             "data.alphabets",
                                             "data.exclude_alphabets",
                                             "data.sampler",
                                             "data.identity_images_per_batch",
                                             "data.min_images",
                                             "data.identities",
                                             "data.identity_folds",
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

/// The name that a run has in its report.
std::string title_of(const std::filesystem::path& folder) {
    const std::filesystem::path full = std::filesystem::absolute(folder).lexically_normal();
    return (full.has_filename() ? full : full.parent_path()).filename().string();
}

/// Adds the drift of the queue's rows: means over all of them, and arrays with one entry a range of ages.
void put_drift(Record& r, const QueueDrift& drift) {
    if (drift.all.rows == 0) return;
    r.put("drift_rows", static_cast<double>(drift.all.rows))
        .put("cos_compensated", drift.all.cos_compensated)
        .put("cos_plain", drift.all.cos_plain)
        .put("mean_error_compensated", drift.all.error_compensated)
        .put("mean_error_plain", drift.all.error_plain);
    const auto put = [&](const char* key, auto&& value) {
        std::vector<double> values;
        for (const DriftBin& bin : drift.by_age) values.push_back(static_cast<double>(value(bin)));
        if (std::string(key) == "age_edges") values.push_back(static_cast<double>(drift.by_age.back().end));
        r.put(key, values);
    };
    put("age_edges", [](const DriftBin& b) { return b.youngest; });
    put("age_mean", [](const DriftBin& b) { return b.age; });
    put("age_rows", [](const DriftBin& b) { return b.means.rows; });
    put("error_plain", [](const DriftBin& b) { return b.means.error_plain; });
    put("error_compensated", [](const DriftBin& b) { return b.means.error_compensated; });
    put("cos_plain_by_age", [](const DriftBin& b) { return b.means.cos_plain; });
    put("cos_compensated_by_age", [](const DriftBin& b) { return b.means.cos_compensated; });
}

/// The numbers of a record under TensorBoard's tags: train/loss, NAME/accuracy of a verification set, queue/rows, ...
Summary summary_of(const Json& values) {
    const std::string kind = values.string_or("kind", "");
    const std::string group = kind == "step" ? "train" : kind == "eval" ? values.string_or("name", "val") : kind;
    Summary s;
    for (const auto& [key, value] : values.object)
        if (value.is(Json::Kind::number) && key != "step") s.scalar(group + "/" + key, value.number);
    return s;
}

/// The run's own config.toml is read again from wherever --resume is called: paths in it are absolute.
RunConfig with_full_paths(RunConfig c) {
    std::vector<std::string*> paths{&c.pretrained, &c.data.root, &c.data.list};
    for (ValConfig& v : c.val) paths.insert(paths.end(), {&v.root, &v.pairs});
    for (std::string* path : paths)
        if (!path->empty()) *path = std::filesystem::absolute(*path).lexically_normal().string();
    return c;
}

/// Makes the folder of a run, or looks that it is one that goes on.
std::filesystem::path prepared_folder(const RunConfig& c, bool resume) {
    namespace fs = std::filesystem;
    const fs::path folder = c.output;
    for (const char* name : {"config.toml", "metrics.jsonl", "checkpoints"})
        BF_CHECK(resume || !fs::exists(folder / name), folder.string(), "holds ", name,
                 " already; hint: --output names another folder, --resume ", folder.string(), " continues a run");
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail(ErrorCode::runtime, folder.string(), "cannot be made: ", error.message());
    return folder;
}

LoaderOptions loader_options(const RunConfig& c) {
    const AugmentConfig& a = c.augment;
    return {.batch_size = c.batch_size,
            .image_size = static_cast<int>(c.image_size),
            .seed = static_cast<std::uint64_t>(c.seed),
            .workers = static_cast<int>(c.num_workers),
            .images_per_identity = c.data.sampler == "balanced" ? c.data.identity_images_per_batch : 0,
            .augment = {.flip = a.flip,
                        .crop_pad = static_cast<int>(a.crop_pad),
                        .brightness = static_cast<float>(a.brightness),
                        .contrast = static_cast<float>(a.contrast),
                        .saturation = static_cast<float>(a.saturation),
                        .erase = static_cast<float>(a.erase),
                        .low_resolution = static_cast<float>(a.low_resolution),
                        .hue = static_cast<float>(a.hue),
                        .photometric = static_cast<float>(a.photometric),
                        .crop = static_cast<float>(a.crop),
                        .crop_min_area = static_cast<float>(a.crop_min_area),
                        .crop_resize = a.crop_resize,
                        .low_resolution_min = static_cast<float>(a.low_resolution_min),
                        .erase_min_area = static_cast<float>(a.erase_min_area),
                        .erase_max_area = static_cast<float>(a.erase_max_area),
                        .erase_min_aspect = static_cast<float>(a.erase_min_aspect),
                        .erase_random = a.erase_random},
            .input = network_facts(c.network).input,
            .max_bad_share = c.data.max_bad_share};
}

/// A training run from images to model file. Steps are queued ahead of the device by a few; what they did is taken in,
/// in order, when it has come back.
class Session {
  public:
    Session(const RunConfig& config, const SessionOptions& options)
        : config_(with_full_paths(config)),
          options_(options),
          device_(device_of(config_.device)),
          precision_(configured(config_, device_)),
          folder_(prepared_folder(config_, options.resume)),
          lock_(folder_),
          checkpoints_(folder_ / "checkpoints", static_cast<int>(config_.keep_checkpoints)),
          data_(open_training_data(config_)),
          data_facts_(describe_data(config_, *data_)),
          loader_(*data_, loader_options(config_)),
          net_(network_of(config_, device_, precision_.compute)),
          w_(Var::leaf(Init(static_cast<std::uint64_t>(config_.seed) + 1, DType::f32, device_)
                           .normal({data_->identities() * head_of(config_).centers, config_.embedding_size}, 0.01))),
          optimizer_(optimizer_of(config_, *net_, w_)),
          micro_(static_cast<std::uint64_t>(config_.gradient_acc)),
          per_epoch_(std::max<std::uint64_t>(1, loader_.batches_per_epoch() / micro_)),
          total_(config_.num_step ? static_cast<std::uint64_t>(config_.num_step)
                                  : per_epoch_ * static_cast<std::uint64_t>(config_.num_epoch)),
          broad_(config_.memory == "broadface" ? broadface_options(config_) : BroadFaceOptions{.queue = 0},
                 config_.embedding_size, DType::f32, device_),
          xbm_(xbm_options(config_), config_.embedding_size, DType::f32, device_),
          vpl_(vpl_options(config_), config_.embedding_size, DType::f32, device_),
          head_(head_of(config_), device_),
          trainer_(*net_, w_, *optimizer_,
                   {.margin = margin_of(config_),
                    .head = &head_,
                    .schedule = schedule_of(config_, per_epoch_, total_),
                    .want_gradient_norm = true,
                    .products = precision_.compute,
                    .kept_bytes = kept_bytes_of(config_),
                    .graph = config_.cuda_graph},
                   broad_, xbm_, vpl_),
          upload_(device_),
          silent_(nullptr),
          progress_(options.progress ? *options.progress : silent_, options.terminal) {
        for (const ValConfig& v : config_.val) sets_.push_back(open_validation(v, config_.image_size));
        if (options.resume)
            resume();
        else if (!config_.pretrained.empty())
            start_from(config_.pretrained);
        checkpoints_.collect_leftovers();
        write_file(folder_ / "config.toml", to_toml(config_));
        metrics_ = std::make_unique<Metrics>(folder_ / "metrics.jsonl", metrics_kept_);
        if (config_.tensorboard) open_events();
        bad_ = loader_.bad_images();
        char facts[256];
        std::snprintf(facts, sizeof facts,
                      "%s (%.1f M parameters) on %s in %s, %lld identities, %lld images, %squeue %lld, %llu steps",
                      config_.network.c_str(), 1e-6 * static_cast<double>(net_->parameter_count()),
                      device_.name().c_str(), precision_.name.c_str(), static_cast<long long>(data_->identities()),
                      static_cast<long long>(data_->size()),
                      config_.memory == "broadface" ? "" : (config_.memory + " with ").c_str(),
                      static_cast<long long>(rows().queue().capacity()), static_cast<unsigned long long>(total_));
        progress_.line(facts);
    }

    SessionResult run() {
        if (evaluation_due()) evaluate();
        start_clock();
        while (trainer_.steps() < total_) {
            const auto began = Clock::now();
            queue_step();
            while (pending_.size() > steps_ahead()) take_in();
            const bool last = trainer_.steps() == total_;
            const bool save_due = last || trainer_.steps() % static_cast<std::uint64_t>(config_.checkpoint_every) == 0;
            const bool stop = stop_asked() && !last;
            if (save_due || stop || evaluation_due())
                while (!pending_.empty()) take_in();
            seconds_ += since(began);
            if (save_due) save();
            if (stop) stop_here();
            if (evaluation_due()) {
                evaluate();
                start_clock();
            }
        }
        evaluate();
        if (config_.measure_classifier) record_classifier();
        add(trainer_.steps(),
            Record("end")
                .put("step", static_cast<double>(trainer_.steps()))
                .put("seconds", seconds_)
                .put("peak_bytes", static_cast<double>(device_memory(device_).stats(device_.index).peak)));
        if (config_.cuda_graph && trainer_.graph_launches() == 0 && !graph_note_shown_)
            progress_.line(
                "cuda_graph: no step ran as a graph: the work differed from step to step (a queue that did not "
                "fill, ramps, is cut by age or overwrites), or there were too few steps");
        if (timed_seconds_ > 0) progress_.line(whole_.summary(timed_seconds_, config_.num_workers));
        progress_.finish();
        save_safetensors(folder_ / "model.safetensors", net_->state(), model_metadata(config_));
        write_report(folder_ / "report.html", title_of(folder_), {{title_of(folder_), "", folder_}});
        return {.last = std::move(last_), .seconds = seconds_, .steps = trainer_.steps(), .folder = folder_};
    }

  private:
    /// A step whose values are on their way, and what its record needs.
    struct Queued {
        PendingStep step;
        std::uint64_t epoch;
        LoaderMeter meter;
        std::int64_t queue;      ///< rows filled
        std::size_t bad_images;  ///< so far
    };

    /// The rows of the memory that the run uses.
    const BroadFace& rows() const {
        return config_.memory == "xbm" ? xbm_.rows() : config_.memory == "vpl" ? vpl_.rows() : broad_;
    }
    /// Steps that may be under way while the next one is queued; the host waits for itself at once.
    std::size_t steps_ahead() const { return device_ == cpu_device ? 0 : 2; }

    // ---- a step

    void queue_step() {
        std::vector<Batch> batches;
        LoaderMeter meter;
        for (std::uint64_t m = 0; m < micro_; ++m) {
            batches.push_back(loader_.next());
            const Batch& b = batches.back();
            meter.add({b.wait_seconds, b.decode_seconds, b.augment_seconds, static_cast<double>(config_.batch_size)});
        }
        warn_of_bad_images();
        PendingStep step = trainer_.launch(upload_(batches));
        pending_.push_back({std::move(step), batches.back().epoch, meter, rows().size(), bad_.size()});
        if (const std::string& note = trainer_.graph_note(); !note.empty() && !graph_note_shown_) {
            progress_.line("cuda_graph: steps run without a graph: " + note);
            graph_note_shown_ = true;
        }
    }
    /// Waits for the oldest step under way and counts what it did.
    void take_in() {
        Queued queued = std::move(pending_.front());
        pending_.pop_front();
        const StepReport report = trainer_.finish(std::move(queued.step));
        loss() += report.loss;
        classifier_loss() += report.classifier_loss;
        accuracy() += report.accuracy;
        counted() += 1;
        meter_.add(queued.meter);
        whole_.add(queued.meter);
        ++timed_;
        if (report.step % static_cast<std::uint64_t>(config_.frequent) == 0 || report.step == total_)
            record(report, queued);
    }
    void record(const StepReport& report, const Queued& queued) {
        const double span = since(mark_), n = counted();
        const double speed = static_cast<double>(timed_) * static_cast<double>(config_.batch_size) *
                             static_cast<double>(config_.gradient_acc) / span;
        add(report.step, Record("step")
                             .put("step", static_cast<double>(report.step))
                             .put("epoch", static_cast<double>(queued.epoch))
                             .put("loss", loss() / n)
                             .put("loss_cls", classifier_loss() / n)
                             .put("accuracy", accuracy() / n)
                             .put("lr", report.lr)
                             .put("grad_norm", report.gradient_norm)
                             .put("images_per_s", speed)
                             .put("data_wait", meter_.wait / span)
                             .put("bound", meter_.loader_bound(span) ? "loader" : "compute")
                             .put("decode_ms", 1e3 * meter_.decode / meter_.images)
                             .put("augment_ms", 1e3 * meter_.augment / meter_.images)
                             .put("loader_images_per_s", meter_.possible(config_.num_workers))
                             .put("queue", static_cast<double>(queued.queue))
                             .put("bad_images", static_cast<double>(queued.bad_images)));
        if (config_.memory == "xbm")
            add(report.step,
                Record("pairs").put("step", static_cast<double>(report.step)).put("loss", report.extra_loss));
        list_bad_images();
        progress_.show({report.step, total_, queued.epoch, loss() / n, report.lr, speed, meter_.wait / span,
                        queued.queue, rows().queue().capacity(), meter_.possible(config_.num_workers),
                        meter_.loader_bound(span)});
        timed_seconds_ += span;
        std::fill_n(sums_.data<double>(), 4, 0.0);
        start_clock();
    }
    /// Events of the checkpoint's step are written again: metrics.jsonl has those from before the checkpoint alone.
    void open_events() {
        const auto from = static_cast<std::int64_t>(trainer_.steps());
        events_ = std::make_unique<EventFile>(folder_ / "events", from);
        for (const Json& values : read_metrics(folder_ / "metrics.jsonl"))
            if (const auto step = static_cast<std::int64_t>(values.number_or("step", 0));
                step == from || !events_->continues())
                events_->add(step, summary_of(values));
    }
    void add(std::uint64_t step, const Record& record) {
        metrics_->add(record);
        if (events_) events_->add(static_cast<std::int64_t>(step), summary_of(parse_json(record.line(), "record")));
    }
    void start_clock() {
        meter_ = {};
        timed_ = 0;
        mark_ = Clock::now();
    }

    // ---- images that cannot be read

    void warn_of_bad_images() {
        if (loader_.bad_images().size() == bad_.size()) return;
        for (const std::string& image : loader_.bad_images())
            if (bad_.insert(image).second) progress_.line("warning: " + image);
    }
    void list_bad_images() {
        if (bad_.size() == bad_listed_) return;
        std::string lines;
        for (const std::string& image : bad_) lines += image + "\n";
        write_file(folder_ / "bad_images.txt", lines);
        bad_listed_ = bad_.size();
    }

    // ---- checkpoints

    /// A checkpoint stands before the evaluation of its step: what follows it in metrics.jsonl is done again.
    void save() {
        list_bad_images();
        StateDict state = trainer_.state();
        const LoaderPosition at = loader_.position();
        state["loader.position"] =
            Tensor::from<std::int64_t>({static_cast<std::int64_t>(at.epoch), static_cast<std::int64_t>(at.batch)}, {2});
        state["session.seconds"] = full({1}, seconds_, DType::f64);
        state["session.sums"] = sums_;
        state["session.metrics"] = Tensor::from<std::int64_t>({static_cast<std::int64_t>(metrics_->bytes())}, {1});
        auto metadata = model_metadata(config_);
        metadata["bf.config"] = to_toml(config_);
        metadata["bf.dataset"] = data_facts_;
        metadata["bf.bad_images"] = json_list(bad_);
        checkpoints_.save(trainer_.steps(), state, metadata);
        saved_ = trainer_.steps();
    }
    /// Takes the weights of a model file over, but for layers that have another shape here.
    void start_from(const std::string& path) {
        const Model model = load_model(path, cpu_device);
        BF_CHECK(model.network == config_.network, "pretrained", path, ": got ", model.network, ", want network ",
                 config_.network);
        StateDict state = net_->state();
        const StateDict given = model.net->state();
        std::string anew;
        for (auto& [name, tensor] : state) {
            const auto found = given.find(name);
            if (found != given.end() && found->second.shape() == tensor.shape())
                tensor = found->second;
            else
                anew += " " + name;
        }
        net_->load_state(state);
        progress_.line("started from " + path + (anew.empty() ? "" : "; drawn anew:" + anew));
    }
    void resume() {
        std::vector<std::string> warnings;
        auto found = checkpoints_.load_latest(&warnings);
        for (const std::string& line : warnings) progress_.line("warning: skipped " + line);
        if (!found) {
            if (const auto files = checkpoints_.list(); !files.empty())
                fail(ErrorCode::data, folder_.string(), "no checkpoint is intact; got ", files.size(),
                     " damaged in checkpoints/; hint: move checkpoints/ away to start again");
            progress_.line("no checkpoint yet in " + folder_.string() + ": starting from the beginning");
            return;
        }
        const StateDict& state = found->content.tensors;
        auto& metadata = found->content.metadata;
        const std::string name = found->path.string();
        for (const char* key : {"bf.config", "bf.dataset", "bf.bad_images"})
            BF_CHECK_DATA(metadata.count(key), name, "has no ", key,
                          " in its metadata; hint: is it a checkpoint of bf train, of this version?");
        compare_settings(parse_config(metadata["bf.config"], name), config_, progress_);
        BF_CHECK_DATA(metadata["bf.dataset"] == data_facts_, name, "the training images are not those of the run; got ",
                      data_facts_, ", want ", metadata["bf.dataset"],
                      "; hint: put the images back, or start a new run");
        for (const char* memory : {"", "xbm.", "vpl."}) {
            check_range(state, concat(memory, "queue.indices"), -1, data_->size(), name);  // -1: unknown
            check_range(state, concat(memory, "queue.labels"), 0, w_.shape()[0], name);
        }
        trainer_.load_state(state);
        const Tensor at = Tensor::zeros({2}, {.dtype = DType::i64}), length = Tensor::zeros({1}, at.options()),
                     seconds = Tensor::zeros({1}, {.dtype = DType::f64});
        load_tensor(state, "loader.position", at);
        load_tensor(state, "session.metrics", length);
        load_tensor(state, "session.seconds", seconds);
        load_tensor(state, "session.sums", sums_);
        loader_.seek({static_cast<std::uint64_t>(at.data<std::int64_t>()[0]),
                      static_cast<std::uint64_t>(at.data<std::int64_t>()[1])});
        std::set<std::string> bad;
        for (const Json& text : parse_json(metadata["bf.bad_images"], name).array) bad.insert(text.string);
        loader_.count_bad_images(bad);
        metrics_kept_ = static_cast<std::uint64_t>(length.data<std::int64_t>()[0]);
        seconds_ = seconds.item();
        saved_ = trainer_.steps();
        progress_.line("resumed from " + name);
        // a finished run that goes on: its model is not that of the newest step any more
        std::error_code error;
        if (saved_ < total_) std::filesystem::remove(folder_ / "model.safetensors", error);
    }
    /// Throws unless a saved tensor holds whole numbers in [low, end); a device cannot look at each as it uses them.
    static void check_range(const StateDict& state, const std::string& tensor, std::int64_t low, std::int64_t end,
                            const std::string& file) {
        const auto found = state.find(tensor);
        if (found == state.end()) return;  // a run without a queue
        BF_CHECK_DATA(found->second.dtype() == DType::i64, file, tensor, "; got ", found->second.str(), ", want i64");
        for (const std::int64_t i : found->second.span<std::int64_t>())
            BF_CHECK_DATA(i >= low && i < end, file, tensor, " names ", i, " of ", end);
    }

    // ---- stops and evaluations

    bool stop_asked() const { return options_.stop && *options_.stop; }
    [[noreturn]] void stop_here() {
        if (saved_ != trainer_.steps()) save();
        progress_.finish();
        fail(ErrorCode::stopped, folder_.string(), "stopped by a signal at step ", trainer_.steps(),
             " with a checkpoint written; hint: bf train --resume ", folder_.string());
    }
    /// The last step's evaluation stands after the loop.
    bool evaluation_due() const {
        const std::uint64_t every = config_.verbose ? static_cast<std::uint64_t>(config_.verbose) : per_epoch_;
        return trainer_.steps() > 0 && trainer_.steps() % every == 0 && trainer_.steps() < total_;
    }
    void evaluate() {
        struct Stopped {};
        last_.clear();
        try {
            for (const ValidationSet& set : sets_) {
                last_.push_back(
                    verify(*net_, set, config_.image_size, network_facts(config_.network).input, [&](std::int64_t) {
                        if (stop_asked()) throw Stopped{};
                    }));
                progress_.line("step " + std::to_string(trainer_.steps()) + "  " + last_.back().line());
            }
        } catch (const Stopped&) {
            stop_here();
        }
        // all sets at once: one that was stopped leaves no record
        for (const Verification& v : last_) add(trainer_.steps(), v.record(trainer_.steps()));
        if (rows().queue().capacity() > 0) add(trainer_.steps(), queue_record());
    }
    /// What the queue holds, how far its rows are from today's network, and what the next step's classifier sees.
    Record queue_record() {
        const std::uint64_t step = trainer_.steps();
        const QueueTelemetry t = rows().telemetry(w_.value(), step);
        std::vector<std::int64_t> batch;
        for (std::uint64_t m = 0; m < micro_; ++m)
            for (const std::int64_t label : loader_.labels(loader_.number() + m)) batch.push_back(label);
        Record r("queue");
        r.put("step", static_cast<double>(step))
            .put("rows", static_cast<double>(t.rows))
            .put("distinct", static_cast<double>(rows().distinct(batch, step)))
            .put("distinct_batch", static_cast<double>(std::set(batch.begin(), batch.end()).size()))
            .put("mean_age", t.mean_age)
            .put("norm_ratio", t.norm_ratio);
        if (const std::int64_t wanted = config_.broadface.drift_rows; wanted > 0)
            put_drift(r, measure_drift(rows(), *net_, w_.value(), loader_, step, {.rows = wanted}));
        return r;
    }

    /// How good the classifier is for all training images, without augmentation, as the network encodes them with its
    /// running statistics.
    void record_classifier() {
        struct Stopped {};
        const auto look = [&](std::int64_t) {
            if (stop_asked()) throw Stopped{};
        };
        progress_.line("measuring the classifier on all training images");
        std::vector<std::int64_t> images(static_cast<std::size_t>(data_->size())), labels;
        std::iota(images.begin(), images.end(), 0);
        for (const std::int64_t i : images) labels.push_back(data_->label(i));
        try {
            const Tensor e = embed(*net_, *data_, images, config_.image_size,
                                   {.flip = false, .input = network_facts(config_.network).input}, look);
            const ClassifierMeasure m = measure_classifier(
                e.to(device_), Tensor::from<std::int64_t>(labels, {data_->size()}).to(device_), w_.value(),
                {.margin = margin_of(config_), .kept_bytes = kept_bytes_of(config_)}, look);
            add(trainer_.steps(), Record("classifier")
                                      .put("step", static_cast<double>(trainer_.steps()))
                                      .put("images", static_cast<double>(m.images))
                                      .put("loss", m.loss)
                                      .put("loss_no_margin", m.loss_no_margin)
                                      .put("accuracy", m.accuracy)
                                      .put("grad_norm", m.gradient_norm)
                                      .put("grad_norm_across", m.across_norm)
                                      .put("turning_norm", m.turning_norm)
                                      .put("least_loss", m.least_loss)
                                      .put("excess_loss", m.excess_loss)
                                      .put("turning_norm_at_least", m.turning_norm_at_least));
            char line[160];
            std::snprintf(line, sizeof line,
                          "classifier  loss %.4f (least found %.4f, excess %.4f)  accuracy %.2f %%  turning norm %.3g",
                          m.loss, m.least_loss, m.excess_loss, 100 * m.accuracy, m.turning_norm);
            progress_.line(line);
        } catch (const Stopped&) {
            stop_here();
        } catch (const Error& error) {
            // the run was allowed to go on without some images
            if (error.code() != ErrorCode::data || config_.data.max_bad_share <= 0) throw;
            progress_.line(std::string("warning: the classifier was not measured: ") + error.what());
        }
    }

    // sums since the last record: loss, classifier loss, accuracy, steps
    double& loss() const { return sums_.data<double>()[0]; }
    double& classifier_loss() const { return sums_.data<double>()[1]; }
    double& accuracy() const { return sums_.data<double>()[2]; }
    double& counted() const { return sums_.data<double>()[3]; }

    RunConfig config_;
    SessionOptions options_;
    Device device_;
    Precision precision_;
    std::filesystem::path folder_;
    FolderLock lock_;
    CheckpointFolder checkpoints_;
    std::unique_ptr<Dataset> data_;
    std::string data_facts_;
    Loader loader_;
    std::vector<ValidationSet> sets_;
    std::shared_ptr<Module> net_;
    Var w_;
    std::unique_ptr<Optimizer> optimizer_;
    std::uint64_t micro_, per_epoch_, total_;  ///< micro-batches of a step; steps of an epoch, and of the run
    BroadFace broad_;  // of the three memories those that the run does not use have no queue, and change nothing
    Xbm xbm_;
    Vpl vpl_;
    MarginHead head_;
    Trainer<BroadFace, Xbm, Vpl> trainer_;
    Upload upload_;
    std::ostream silent_;
    Progress progress_;
    std::unique_ptr<Metrics> metrics_;
    std::unique_ptr<EventFile> events_;  ///< with the key tensorboard

    std::deque<Queued> pending_;
    std::vector<Verification> last_;
    double seconds_ = 0;       ///< trained so far
    std::uint64_t saved_ = 0;  ///< step of the newest checkpoint
    std::uint64_t metrics_kept_ = 0;
    Tensor sums_ = Tensor::zeros({4}, {.dtype = DType::f64});
    std::set<std::string> bad_;  ///< images that could not be read
    std::size_t bad_listed_ = 0;
    bool graph_note_shown_ = false;
    LoaderMeter meter_;  ///< since mark_
    LoaderMeter whole_;  ///< of this part of the run
    double timed_seconds_ = 0;
    std::uint64_t timed_ = 0;  ///< steps since mark_
    Clock::time_point mark_{};
};

}  // namespace

SessionResult run_session(const RunConfig& config, const SessionOptions& options) {
    return Session(config, options).run();
}

}  // namespace bf::program

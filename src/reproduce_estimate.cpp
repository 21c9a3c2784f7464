// What runs need of time, disk and memory: by runs that are done, else by steps of the real network, timed here.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>

#include "bf/core/device_memory.hpp"
#include "bf/train/trainer.hpp"
#include "config_toml.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "reproduce.hpp"
#include "run_parts.hpp"

namespace bf::program {
namespace {

using Clock = std::chrono::steady_clock;

/// What one step was measured to take.
struct StepCost {
    double step_seconds = 0, image_seconds = 0, row_seconds = 0;  ///< whatever the batch; of an image, of a queue row
    double image_bytes = 0;                                       ///< of activations
    double parameters = 0;
};

/// Fastest of three steps over `batch` made images after one that warms up.
double step_seconds(const RunConfig& c, Device device, Module& net, const Var& w, std::int64_t batch,
                    std::int64_t queue) {
    Init init(7);
    const std::unique_ptr<Optimizer> optimizer = optimizer_of(c, net, w);
    const auto labels = [&](std::int64_t n) {
        const Tensor t = Tensor::empty({n}, {.dtype = DType::i64});
        for (std::int64_t i = 0; i < n; ++i) t.data<std::int64_t>()[i] = i * 7919 % w.value().dim(0);
        return t.to(device);
    };
    BroadFace broad(BroadFaceOptions{.queue = queue, .compensate = c.broadface.compensate}, c.embedding_size,
                    DType::f32, device);
    if (queue > 0) broad.push(init.normal({queue, c.embedding_size}, 1).to(device), labels(queue), w.value(), 0);
    Trainer<BroadFace> trainer(net, w, *optimizer,
                               {.margin = margin_of(c),
                                .schedule = {.kind = ScheduleKind::constant, .lr = 1e-5},
                                .want_gradient_norm = true,
                                .kept_bytes = kept_bytes_of(c)},
                               broad);
    const TrainBatch images{init.normal({batch, 3, c.image_size, c.image_size}, 0.5).to(device), labels(batch), {}};
    double fastest = HUGE_VAL;
    for (int i = 0; i < 4; ++i) {
        const auto start = Clock::now();
        trainer.step(std::span(&images, 1));
        device_memory(device).synchronize(device.index);
        if (i > 0) fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return fastest;
}

double queue_bytes(const RunConfig& c) {
    return static_cast<double>(c.broadface.queue) * (8.0 * static_cast<double>(c.embedding_size) + 32);
}
/// Bytes beside the activations while training: values, gradients, the optimizer's state, the queue.
double standing_bytes(const RunConfig& c, double parameters, double identities) {
    const double numbers = parameters + identities * static_cast<double>(c.embedding_size);
    return 4 * numbers * (c.optimizer == "sgd" ? 3 : 4) + queue_bytes(c);
}

StepCost measure_step(const RunConfig& c, std::int64_t identities) {
    const Device device = device_of(c.device);
    const Precision precision = configured(c, device);
    const double macs =
        static_cast<double>(network_macs(c.network, {.embedding_size = c.embedding_size, .image_size = c.image_size}));
    // large networks are timed with fewer images; what a step takes whatever the batch shows between two sizes
    const std::int64_t batch =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(1e11 / macs), 2, std::max<std::int64_t>(2, c.batch_size));
    const std::int64_t fewer = std::max<std::int64_t>(1, batch / 4);
    const std::shared_ptr<Module> net = network_of(c, device, precision.compute);
    const Var w = Var::leaf(Init(7).normal({identities, c.embedding_size}, 0.01).to(device));
    StepCost cost;
    cost.parameters = static_cast<double>(net->parameter_count());
    const DeviceMemory& memory = device_memory(device);
    memory.reset_peak(device.index);
    const double seconds = step_seconds(c, device, *net, w, batch, 0);
    RunConfig no_queue = c;
    no_queue.broadface.queue = 0;
    cost.image_bytes = std::max(0.0, (static_cast<double>(memory.stats(device.index).peak) -
                                      standing_bytes(no_queue, cost.parameters, static_cast<double>(identities))) /
                                         static_cast<double>(batch));
    const double seconds_fewer = step_seconds(c, device, *net, w, fewer, 0);
    cost.image_seconds = std::clamp((seconds - seconds_fewer) / static_cast<double>(batch - fewer), 0.0,
                                    seconds / static_cast<double>(batch));
    cost.step_seconds = seconds - cost.image_seconds * static_cast<double>(batch);
    constexpr std::int64_t rows = 1024;
    cost.row_seconds = std::max(0.0, step_seconds(c, device, *net, w, fewer, rows) - seconds_fewer) / rows;
    return cost;
}

/// How many training images of how many identities.
struct DataSizes {
    std::int64_t images = 0, identities = 0;
};
DataSizes data_sizes(const Experiment& x, const RunConfig& c) {
    try {
        const auto data = open_training_data(c);
        return {data->size(), data->identities()};
    } catch (const Error&) {
        if (x.images == 0 || x.identities == 0) throw;
        return {x.images, x.identities};  // not there yet: the set's published sizes
    }
}
bool same_data(const RunConfig& a, const RunConfig& b) {
    const std::vector<ChangedKey> changed = changed_keys(a, b);
    return std::none_of(changed.begin(), changed.end(), [](const auto& c) { return c.key.rfind("data.", 0) == 0; });
}

}  // namespace

std::vector<Estimate> estimate_runs(const Experiment& x, const std::vector<PlannedRun>& runs, const Ledger& ledger) {
    using Key = std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::string>;
    std::map<Key, StepCost> costs;
    std::vector<std::pair<const RunConfig*, DataSizes>> opened;  // a set of millions takes its time
    std::vector<Estimate> all;
    for (const PlannedRun& run : runs) {
        const RunConfig& c = run.config;
        auto set = std::find_if(opened.begin(), opened.end(), [&c](const auto& o) { return same_data(*o.first, c); });
        if (set == opened.end()) set = opened.insert(set, {&c, data_sizes(x, c)});
        const auto [images, identities] = set->second;
        const Key key{c.network, c.image_size, c.embedding_size, c.batch_size, identities, c.device + c.precision};
        const auto known = costs.find(key);
        const StepCost& cost = known != costs.end() ? known->second : costs[key] = measure_step(c, identities);
        Estimate e;
        const double batch = static_cast<double>(c.batch_size * c.gradient_acc);
        const double steps = c.num_step
                                 ? static_cast<double>(c.num_step)
                                 : std::floor(static_cast<double>(images) / batch) * static_cast<double>(c.num_epoch);
        double compared = 0;  // images of an evaluation; a published .bin has about 12,000
        for (const ValConfig& v : c.val)
            compared += v.kind == "synthetic" ? static_cast<double>(v.identities * v.images_per_identity)
                        : v.kind == "bin"     ? 12000
                                              : 1200;
        const double every = c.verbose ? static_cast<double>(c.verbose) : static_cast<double>(images) / batch;
        // an image is embedded twice, the second time mirrored; a forward pass is a third of a step
        e.seconds = steps * (cost.step_seconds + batch * cost.image_seconds +
                             static_cast<double>(c.broadface.queue) * cost.row_seconds) +
                    std::ceil(steps / every) * compared * cost.image_seconds * 2 / 3;
        if (const double measured = seconds_by_ledger(run, ledger, true); measured > 0) {
            e.seconds = measured;
            e.by_ledger = true;
        }
        const double state = cost.parameters + static_cast<double>(identities * c.embedding_size);
        e.model_bytes = 4 * cost.parameters;
        e.disk_bytes = e.model_bytes + static_cast<double>(c.keep_checkpoints) *
                                           (4 * state * (c.optimizer == "sgd" ? 2 : 3) + queue_bytes(c));
        e.standing_bytes = standing_bytes(c, cost.parameters, static_cast<double>(identities));
        e.queue_bytes = queue_bytes(c);
        e.activation_bytes = cost.image_bytes * static_cast<double>(c.batch_size);
        all.push_back(e);
    }
    return all;
}

}  // namespace bf::program

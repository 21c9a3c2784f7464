#include "run_parts.hpp"

#include "bf/core/parallel.hpp"

namespace bf::program {

Precision configured(const RunConfig& c, Device device) {
    const Precision precision = precision_of(c, device);
    device_runtime(device).configure({.tf32 = precision.tf32, .deterministic = c.deterministic, .autotune = c.autotune},
                                     device.index);
    if (c.threads > 0) cpu_pool().resize(static_cast<int>(c.threads));
    return precision;
}

std::unique_ptr<Optimizer> optimizer_of(const RunConfig& c, const Module& net, const Var& w) {
    const bool all = c.clip_scope == "all";
    std::vector<ParameterGroup> groups(2);
    groups[0] = {.parameters = net.parameters(),
                 .weight_decay = c.weight_decay,
                 .decay_norm_and_bias = c.decay_norm_and_bias,
                 .clip_norm = all ? 0 : c.clip_norm};
    groups[1] = {.parameters = {Parameter{"classifier.weight", w}}, .weight_decay = c.weight_decay};
    const double clip = all ? c.clip_norm : 0;
    if (c.optimizer != "sgd")
        return std::make_unique<AdamW>(std::move(groups),
                                       AdamWOptions{.clip_norm = clip, .coupled = c.optimizer == "adam"});
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

BroadFaceOptions broadface_options(const RunConfig& c) {
    const BroadFaceConfig& b = c.broadface;
    return {.queue = b.queue,
            .compensate = b.compensate,
            .start_step = static_cast<std::uint64_t>(b.start_step),
            .ramp_steps = static_cast<std::uint64_t>(b.ramp_steps),
            .age_limit = static_cast<std::uint64_t>(b.age_limit),
            .direction_only = b.direction_only,
            .overwrite = b.overwrite,
            .centers = head_of(c).centers};
}

XbmOptions xbm_options(const RunConfig& c) {
    if (c.memory != "xbm") return {.queue = 0};
    return {.queue = c.xbm.queue,
            .weight = c.xbm.weight,
            .margin = c.xbm.margin,
            .start_step = static_cast<std::uint64_t>(c.xbm.start_step),
            .compensate = c.xbm.compensate};
}

VplOptions vpl_options(const RunConfig& c) {
    if (c.memory != "vpl") return {.queue = 0};
    // not in whole numbers: the product of two large ones has no room
    const double all = static_cast<double>(c.vpl.age_limit) * static_cast<double>(c.batch_size * c.gradient_acc);
    BF_CHECK(c.vpl.queue > 0 || (all >= 1 && all <= 1e8), "vpl.queue",
             "0 stands for age_limit times the images of a "
             "step; got ",
             all, " rows, want 1..1e+08; hint: vpl.queue = ROWS");
    return {.queue = c.vpl.queue > 0 ? c.vpl.queue : static_cast<std::int64_t>(all),
            .lambda = c.vpl.lambda,
            .age_limit = static_cast<std::uint64_t>(c.vpl.age_limit),
            .start_step = static_cast<std::uint64_t>(c.vpl.start_step)};
}

}  // namespace bf::program

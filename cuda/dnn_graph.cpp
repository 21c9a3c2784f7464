#include "dnn_graph.hpp"

#include <map>
#include <mutex>
#include <optional>

#include "handle.hpp"

namespace bf::cuda {
namespace {

static_assert(static_cast<int>(EngineNote::tensor_core) == CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
static_assert(static_cast<int>(EngineNote::down_convert) == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
static_assert(static_cast<int>(EngineNote::reduced_reduction) == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
static_assert(static_cast<int>(EngineNote::fft) == CUDNN_NUMERICAL_NOTE_FFT);
static_assert(static_cast<int>(EngineNote::nondeterministic) == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
static_assert(static_cast<int>(EngineNote::winograd) == CUDNN_NUMERICAL_NOTE_WINOGRAD);
static_assert(static_cast<int>(EngineNote::winograd_4x4) == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4);
static_assert(static_cast<int>(EngineNote::winograd_6x6) == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6);
static_assert(static_cast<int>(EngineNote::winograd_13x13) == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13);
static_assert(static_cast<int>(EngineNote::strict_nan) == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP);

constexpr std::array<std::int64_t, 3> tensor_ids = {1, 2, 3};  // x, w, y
constexpr std::size_t tuned_plans = 8;
constexpr std::size_t tuning_runs = 5;

cudnnDataType_t data_type(DType dtype) { return dtype == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

/// A convolution as a graph of one operation. The descriptors that it is made of live as long as the graph.
struct ConvGraph {
    Descriptor x, w, y, convolution, operation, graph;

    ConvGraph(cudnnHandle_t dnn, const PlanKey& key) {
        const ConvGeometry& g = key.g;
        x = tensor_descriptor(tensor_ids[0], {g.n, g.c_in, g.h, g.w}, key.dtype);
        // the number of groups is what the library finds in C of x / C of w
        w = tensor_descriptor(tensor_ids[1], {g.c_out, g.c_in / g.groups, g.kernel_h, g.kernel_w}, key.dtype);
        y = tensor_descriptor(tensor_ids[2], {g.n, g.c_out, g.h_out(), g.w_out()}, key.dtype);
        convolution = convolution_descriptor(g);
        operation = convolution_operation(key.pass, convolution, x, w, y);
        graph = operation_graph(dnn, operation);
    }
};

/// A plan that is ready to run, and what is known of it.
struct ConvPlan : PlanFacts {
    Descriptor config, plan;
    std::string label;  ///< the convolution, for messages
};

/// Where plans are to run: on the GPU of a handle, or on one described by its properties.
struct PlanDevice {
    cudnnHandle_t dnn = nullptr;
    const Descriptor* properties = nullptr;
};

/// Runs f. An engine that refuses a shape is nothing unusual, only all of them would be: the reason is kept.
template <class F>
bool attempt(std::string& reason, F&& f) {
    try {
        f();
        return true;
    } catch (const Error& e) {
        reason = e.what();
        return false;
    }
}

/// The configurations that the heuristics propose, best first.
std::vector<Descriptor> engine_configs(const PlanDevice& device, const Descriptor& graph, cudnnBackendHeurMode_t mode) {
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (device.properties) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device.properties);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    heuristics.finalize();
    const std::int64_t count = heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
    std::vector<Descriptor> configs;
    std::vector<cudnnBackendDescriptor_t> handles;  // the library fills descriptors that are there already
    for (std::int64_t i = 0; i < count; ++i) {
        configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        handles.push_back(configs.back().handle());
    }
    if (count > 0) {
        const std::int64_t filled =
            heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, handles.data());
        configs.resize(static_cast<std::size_t>(std::min(count, filled)));
    }
    return configs;
}

/// Reads the number and the notes of a configuration's engine.
void read_engine(ConvPlan& plan) {
    Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t handle = engine.handle();
    plan.config.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &handle);
    engine.get(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &plan.engine);
    std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> list{};
    const std::int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                          CUDNN_NUMERICAL_NOTE_TYPE_COUNT, list.data());
    plan.notes = 0;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(count, CUDNN_NUMERICAL_NOTE_TYPE_COUNT); ++i)
        plan.notes |= bit(static_cast<EngineNote>(list[static_cast<std::size_t>(i)]));
}

/// Turns the configuration into a plan. This may compile kernels, and is where an engine refuses a shape.
void finalize_plan(const PlanDevice& device, ConvPlan& plan) {
    plan.plan = Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (device.properties)
        plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *device.properties);
    else
        plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &device.dnn);
    plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, plan.config);
    plan.plan.finalize();
    std::int64_t bytes = 0;
    plan.plan.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
    plan.workspace = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 0));
}

void execute(const Backend& b, const ConvPlan& plan, const ConvBuffers& buffers, void* workspace) {
    const std::array<void*, 3> pointers = {buffers.x, buffers.w, buffers.y};
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, tensor_ids.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    pack.finalize();
    BF_CUDA(cudnnBackendExecute(b.dnn, plan.plan.handle(), pack.handle()), plan.label, ", engine ", plan.engine,
            ", workspace ", plan.workspace);
}

/// Room for a plan, from the caching allocator; undefined where it needs none.
Tensor workspace_of(const Context& context, const ConvPlan& plan) {
    if (plan.workspace == 0) return {};
    return Tensor::empty({static_cast<std::int64_t>(plan.workspace)}, {.dtype = DType::u8, .device = context.device});
}
void run(Context& context, const ConvPlan& plan, const ConvBuffers& buffers) {
    const Tensor workspace = workspace_of(context, plan);
    execute(backend(context), plan, buffers, workspace.defined() ? workspace.raw() : nullptr);
}

/// Median time of one run, after a run that is not counted. Overwrites the result, as each run does.
float time_plan(Context& context, const ConvPlan& plan, const ConvBuffers& buffers) {
    const Backend& b = backend(context);
    const Tensor workspace = workspace_of(context, plan);
    void* room = workspace.defined() ? workspace.raw() : nullptr;
    execute(b, plan, buffers, room);
    std::array<EventHandle, tuning_runs + 1> marks;
    for (EventHandle& mark : marks) mark = make_event(true);
    BF_CUDA(cudaEventRecord(marks[0].get(), b.stream), "timing");
    for (std::size_t i = 0; i < tuning_runs; ++i) {
        execute(b, plan, buffers, room);
        BF_CUDA(cudaEventRecord(marks[i + 1].get(), b.stream), "timing");
    }
    BF_CUDA(cudaEventSynchronize(marks.back().get()), "timing");
    std::array<float, tuning_runs> times{};
    for (std::size_t i = 0; i < tuning_runs; ++i)
        BF_CUDA(cudaEventElapsedTime(&times[i], marks[i].get(), marks[i + 1].get()), "timing");
    return median(times);
}

/// Up to `wanted` plans that the rules allow, best guess first.
std::vector<ConvPlan> find_plans(const PlanDevice& device, const ConvGraph& graph, const PlanKey& key,
                                 std::size_t wanted, PlanSearch& search) {
    std::vector<ConvPlan> found;
    std::vector<std::int64_t> engines;
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK}) {
        // the fallback list is made of engines that run anywhere, not of fast ones
        if (found.size() >= wanted || (mode == CUDNN_HEUR_MODE_FALLBACK && !found.empty())) break;
        std::vector<Descriptor> configs;
        if (!attempt(search.refusal, [&] { configs = engine_configs(device, graph.graph, mode); })) continue;
        std::vector<ConvPlan> proposed;
        for (Descriptor& config : configs) {
            ConvPlan& plan = proposed.emplace_back();
            plan.config = std::move(config);
            plan.label = str(key.pass, key.g, key.dtype);
            ++search.proposed;
            const bool read = attempt(search.refusal, [&] { read_engine(plan); });
            search.refused += !read;
            search.dropped += read && !allowed(plan.notes, key.rules);
            if (!read || !allowed(plan.notes, key.rules)) proposed.pop_back();
        }
        std::stable_partition(proposed.begin(), proposed.end(),
                              [&](const ConvPlan& p) { return preferred(p.notes, key.rules, key.g.groups); });
        for (ConvPlan& plan : proposed) {
            if (found.size() >= wanted) break;
            if (!has_place(engines, plan.engine)) {
                continue;
            } else if (!attempt(search.refusal, [&] { finalize_plan(device, plan); })) {
                ++search.refused;
            } else if (plan.workspace > key.workspace_limit) {
                ++search.too_large;
            } else {
                engines.push_back(plan.engine);
                found.push_back(std::move(plan));
            }
        }
    }
    return found;
}

ConvPlan build_plan(Context& context, const PlanKey& key, const ConvBuffers& buffers) {
    // one at a time in the whole program: heuristics B are not safe to ask from two threads
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    const Backend& b = backend(context);
    refuse_in_capture(b, "conv2d", "the search for a plan", "run a step of these shapes before the capture");
    PlanSearch search;
    std::vector<ConvPlan> found;
    std::optional<ConvGraph> graph;
    if (attempt(search.refusal, [&] { graph.emplace(b.dnn, key); }))
        found = find_plans({.dnn = b.dnn}, *graph, key, key.autotune ? tuned_plans : 1, search);
    std::optional<std::size_t> best;
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (found.size() > 1 &&
            !attempt(search.refusal, [&] { found[i].milliseconds = time_plan(context, found[i], buffers); })) {
            ++search.refused;
            continue;
        }
        if (!best || found[i].milliseconds < found[*best].milliseconds) best = i;
    }
    if (!best)
        fail(ErrorCode::runtime, "conv2d", "cuDNN has no plan for ", str(key.pass, key.g, key.dtype), "; ",
             search.proposed, " engines proposed, ", search.dropped, " dropped by the settings, ", search.too_large,
             " over the workspace limit of ", key.workspace_limit, " bytes, ", search.refused, " refused",
             search.refusal.empty() ? "" : " (last: " + search.refusal + ")", "; hint: ", plan_hint(key, search));
    return std::move(found[*best]);
}

/// The plans of one GPU. The lock is held while one runs too: a cuDNN handle serves one thread at a time.
struct PlanCache {
    std::mutex mutex;
    std::map<PlanKey, ConvPlan> plans;
};
PlanCache& plan_cache(const Backend& b) {
    static std::mutex mutex;
    // as the backends, kept to the end of the program: the driver may be gone when destructors of statics run
    static auto& caches = *new std::map<const Backend*, PlanCache>;
    const std::lock_guard lock(mutex);
    return caches[&b];
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
    BF_CUDA(cudnnBackendCreateDescriptor(type, &handle_), "descriptor type ", static_cast<int>(type));
}

Descriptor::~Descriptor() {
    if (!handle_) return;
    try {
        BF_CUDA(cudnnBackendDestroyDescriptor(handle_), "descriptor");
    } catch (const Error&) {  // nothing can be done about it here
    }
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                     const void* values) {
    BF_CUDA(cudnnBackendSetAttribute(handle_, name, type, count, values), "attribute ", static_cast<int>(name),
            ", elements ", count);
}

std::int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t room,
                             void* values) const {
    std::int64_t count = 0;
    BF_CUDA(cudnnBackendGetAttribute(handle_, name, type, room, &count, values), "attribute ", static_cast<int>(name),
            ", elements ", room);
    return count;
}

void Descriptor::finalize() { BF_CUDA(cudnnBackendFinalize(handle_), "descriptor"); }

Descriptor tensor_descriptor(std::int64_t id, const std::array<std::int64_t, 4>& dims, DType dtype) {
    const cudnnDataType_t type = data_type(dtype);
    const std::array<std::int64_t, 4> strides = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &plan_alignment);
    d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
    d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
    d.finalize();
    return d;
}

Descriptor convolution_descriptor(const ConvGeometry& g) {
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const std::int64_t spatial = 2;
    const std::array<std::int64_t, 2> pad = {g.pad, g.pad}, stride = {g.stride, g.stride}, dilation = {1, 1};
    Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, spatial, pad.data());
    d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, spatial, pad.data());
    d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, spatial, dilation.data());
    d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, spatial, stride.data());
    d.finalize();
    return d;
}

Descriptor convolution_operation(ConvPass pass, const Descriptor& convolution, const Descriptor& x, const Descriptor& w,
                                 const Descriptor& y) {
    struct Names {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
    };
    static constexpr std::array<Names, 3> names = {
        Names{CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        Names{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        Names{CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
    const Names& name = names[static_cast<std::size_t>(pass)];
    const float alpha = 1, beta = 0;
    Descriptor d(name.type);
    d.set(name.convolution, convolution);
    d.set(name.x, x);
    d.set(name.w, w);
    d.set(name.y, y);
    d.set(name.alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    d.set(name.beta, CUDNN_TYPE_FLOAT, 1, &beta);
    d.finalize();
    return d;
}

Descriptor operation_graph(cudnnHandle_t dnn, const Descriptor& operation) {
    Descriptor d(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (dnn) d.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn);
    d.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    d.finalize();
    return d;
}

Descriptor device_descriptor(const std::string& json) {
    Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    d.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(json.size()),
          json.data());
    d.finalize();
    return d;
}

std::vector<PlanFacts> plans_on(const Descriptor& device, const PlanKey& key, std::size_t wanted) {
    PlanSearch search;
    std::vector<PlanFacts> facts;
    for (ConvPlan& plan : find_plans({.properties = &device}, ConvGraph(nullptr, key), key, wanted, search))
        facts.push_back(plan);
    return facts;
}

void run_convolution(Context& context, const PlanKey& key, const ConvBuffers& buffers) {
    PlanCache& cache = plan_cache(backend(context));
    const std::lock_guard lock(cache.mutex);
    auto at = cache.plans.find(key);
    if (at == cache.plans.end()) at = cache.plans.emplace(key, build_plan(context, key, buffers)).first;
    run(context, at->second, buffers);
}

std::vector<std::string> convolution_plans(Context& context) {
    PlanCache& cache = plan_cache(backend(context));
    const std::lock_guard lock(cache.mutex);
    std::vector<std::string> lines;
    for (const auto& [key, plan] : cache.plans)
        lines.push_back(concat(plan.label, ": engine ", plan.engine, ", ", str(plan.notes), ", workspace ",
                               plan.workspace, ", ", plan.milliseconds, " ms"));
    return lines;
}

}  // namespace bf::cuda

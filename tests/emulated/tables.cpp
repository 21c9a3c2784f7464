// The three tables of the emulated device, and what it tells bf doctor.
#include "bf/kernels/dispatch.hpp"
#include "cuda/facts.hpp"
#include "machine.hpp"
#include "queued.hpp"

namespace bf {

using emulated::EventPoint;
using emulated::Graph;
using emulated::machine;

const DeviceMemory& cuda_memory() {
    static const DeviceMemory table{
        .allocate = [](std::size_t bytes, int index) { return machine(index).allocate(bytes); },
        .deallocate = [](void* p, std::size_t, int index) { machine(index).deallocate(p); },
        .copy = [](void* to, const void* from, std::size_t bytes, CopyKind kind,
                   int index) { machine(index).copy(to, from, bytes, kind); },
        .zero = [](void* p, std::size_t bytes, int index) { machine(index).zero(p, bytes); },
        .synchronize = [](int index) { machine(index).synchronize(); },
        .stats = [](int index) { return machine(index).stats(); },
        .reset_peak = [](int index) { machine(index).reset_peak(); },
        .release_cache = [](int index) { machine(index).release_cache(); },
    };
    return table;
}

namespace {
DeviceSettings current_settings;

EventPoint& event_of(void* event) { return *static_cast<EventPoint*>(event); }
std::shared_ptr<Graph>& graph_of(void* graph) { return *static_cast<std::shared_ptr<Graph>*>(graph); }
}  // namespace

const DeviceRuntime& cuda_runtime() {
    static const DeviceRuntime table{
        .has_bf16 = [](int index) { return static_cast<void>(machine(index)), true; },
        .settings = [](int index) { return static_cast<void>(machine(index)), current_settings; },
        .configure = [](const DeviceSettings& settings,
                        int index) { static_cast<void>(machine(index)), current_settings = settings; },
        .pin = [](std::size_t bytes, int index) { return machine(index).pin(bytes); },
        .unpin = [](void* p, std::size_t, int index) { machine(index).unpin(p); },
        .copy = [](void* to, const void* from, std::size_t bytes, CopyKind kind, Lane lane,
                   int index) { machine(index).copy_queued(to, from, bytes, kind, lane); },
        .make_event = [](int index) -> void* { return static_cast<void>(machine(index)), new EventPoint; },
        .destroy_event = [](void* event, int) { delete &event_of(event); },
        .record = [](void* event, Lane lane, int index) { machine(index).record(event_of(event), lane); },
        .wait = [](void* event, Lane lane, int index) { machine(index).order(event_of(event), lane); },
        .passed = [](void* event, int index) { return machine(index).passed(event_of(event)); },
        .synchronize = [](void* event, int index) { machine(index).synchronize(event_of(event)); },
        .begin_capture = [](int index) { machine(index).begin_capture(); },
        .end_capture = [](int index) -> void* { return new std::shared_ptr<Graph>(machine(index).end_capture()); },
        .abort_capture = [](int index) { machine(index).abort_capture(); },
        .launch = [](void* graph, int index) { machine(index).launch(graph_of(graph)); },
        .destroy_graph =
            [](void* graph, int index) {
                machine(index).destroy(graph_of(graph));
                delete &graph_of(graph);
            },
    };
    return table;
}

const KernelTable& cuda_table() {
    using emulated::queued;
    static const KernelTable table{
        .convert = queued<&KernelTable::convert>,
        .fill = queued<&KernelTable::fill>,
        .axpby = queued<&KernelTable::axpby>,
        .unary = queued<&KernelTable::unary>,
        .unary_dx = queued<&KernelTable::unary_dx>,
        .binary = queued<&KernelTable::binary>,
        .binary_dx = queued<&KernelTable::binary_dx>,
        .binary_dz = queued<&KernelTable::binary_dz>,
        .dropout = queued<&KernelTable::dropout>,
        .reduce = queued<&KernelTable::reduce>,
        .reduce_dx = queued<&KernelTable::reduce_dx>,
        .gemm = queued<&KernelTable::gemm>,
        .broadcast_rows = queued<&KernelTable::broadcast_rows>,
        .gather_rows = queued<&KernelTable::gather_rows>,
        .scatter_add_rows = queued<&KernelTable::scatter_add_rows>,
        .normalize_rows = queued<&KernelTable::normalize_rows>,
        .normalize_rows_dx = queued<&KernelTable::normalize_rows_dx>,
        .softmax_cross_entropy = queued<&KernelTable::softmax_cross_entropy>,
        .softmax_cross_entropy_dx = queued<&KernelTable::softmax_cross_entropy_dx>,
        .conv2d = queued<&KernelTable::conv2d>,
        .conv2d_dx = queued<&KernelTable::conv2d_dx>,
        .conv2d_dw = queued<&KernelTable::conv2d_dw>,
        .batch_norm_train = queued<&KernelTable::batch_norm_train>,
        .inverse_std = queued<&KernelTable::inverse_std>,
        .batch_norm_eval = queued<&KernelTable::batch_norm_eval>,
        .batch_norm_train_dx = queued<&KernelTable::batch_norm_train_dx>,
        .batch_norm_eval_dx = queued<&KernelTable::batch_norm_eval_dx>,
        .prelu = queued<&KernelTable::prelu>,
        .prelu_dx = queued<&KernelTable::prelu_dx>,
        .max_pool = queued<&KernelTable::max_pool>,
        .max_pool_dx = queued<&KernelTable::max_pool_dx>,
        .avg_pool = queued<&KernelTable::avg_pool>,
        .avg_pool_dx = queued<&KernelTable::avg_pool_dx>,
        .inverse_norms = queued<&KernelTable::inverse_norms>,
        .target_cosine = queued<&KernelTable::target_cosine>,
        .classifier_statistics = queued<&KernelTable::classifier_statistics>,
        .margin_rows = queued<&KernelTable::margin_rows>,
        .classifier_dw = emulated::queued_classifier_dw,
        .classifier_dx = queued<&KernelTable::classifier_dx>,
        .compensate = queued<&KernelTable::compensate>,
        .sum_squares = queued<&KernelTable::sum_squares>,
        .clip_factors = queued<&KernelTable::clip_factors>,
        .sgd = queued<&KernelTable::sgd>,
        .adamw = queued<&KernelTable::adamw>,
    };
    return table;
}

Context& cuda_context(int index) {
    static Context context{{DeviceType::cuda, 0}, nullptr};
    static_cast<void>(machine(index));  // throws where the device is not there
    return context;
}

namespace cuda {
Facts facts() {
    Facts f;
    f.toolkit = "none (the device is emulated on the cpu)";
    f.architectures = "none";
    f.problem = "this build emulates a device on the cpu, for tests (BF_EMULATED_DEVICE); no GPU is there";
    return f;
}
}  // namespace cuda

}  // namespace bf

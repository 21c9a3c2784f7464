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
#define BF_ENTRY(name) .name = queued<&KernelTable::name>,
    static const KernelTable table{BF_KERNELS(BF_ENTRY)};
#undef BF_ENTRY
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

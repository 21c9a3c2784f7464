// cpu_table() of bf::cpu: the kernels of this project, and where oneDNN was built in, its convolutions before them.
#include "bf/kernels/cpu_backend.hpp"

#include <atomic>

#include "bf/kernels/cpu_tiles.hpp"
#include "bf/kernels/dispatch.hpp"
#ifdef BF_HAVE_ONEDNN
#include "onednn_conv.hpp"
#endif

namespace bf {
namespace {

CpuConv checked(CpuConv choice) {
#ifndef BF_HAVE_ONEDNN
    BF_CHECK(
        choice != CpuConv::onednn, "BF_CPU_CONV",
        "onednn is not part of this build, want auto or own; hint: install oneDNN (libdnnl-dev) and configure with "
        "-DBF_ONEDNN=ON");
#endif
    return choice;
}
std::atomic<CpuConv>& chosen() {
    static std::atomic<CpuConv> choice{checked(parse_cpu_conv(std::getenv("BF_CPU_CONV")))};
    return choice;
}

#ifdef BF_HAVE_ONEDNN
/// Whether oneDNN has tiles of bf16 that our own kernels do not have in this build.
bool has_more_tiles() { return onednn::has_amx() && !cpu::has_tiles(); }
/// Whether oneDNN's bf16 is then the faster one. In weight gradients its time goes into turning images around,
/// which small images and 1x1 kernels with a stride do not repay (benchmarks/conv.cpp).
bool faster_in_bf16(const ConvGeometry& g, bool dw) {
    return !dw || (g.h_out() * g.w_out() > 64 && (g.kernel_h * g.kernel_w > 1 || g.stride == 1));
}
/// Winograd is our own in any case: oneDNN has one for its blocked layouts only.
bool takes(const ConvGeometry& g, ConvAlgorithm algorithm, DType dtype, bool dw = false) {
    if (algorithm == ConvAlgorithm::winograd || (dtype != DType::f32 && dtype != DType::bf16)) return false;
    switch (chosen().load(std::memory_order_relaxed)) {
        case CpuConv::own: return false;
        case CpuConv::onednn: return true;
        case CpuConv::automatic: return dtype == DType::bf16 && has_more_tiles() && faster_in_bf16(g, dw);
    }
    return false;
}

using T = const Tensor&;
void conv2d(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, T x, T w, T y) {
    if (!takes(g, algorithm, x.dtype()) || !onednn::conv2d(g, x, w, y))
        own_cpu_table().conv2d(context, g, algorithm, x, w, y);
}
void conv2d_dx(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, T dy, T w, T dx) {
    if (!takes(g, algorithm, dy.dtype()) || !onednn::conv2d_dx(g, dy, w, dx))
        own_cpu_table().conv2d_dx(context, g, algorithm, dy, w, dx);
}
void conv2d_dw(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, T x, T dy, T dw) {
    if (!takes(g, algorithm, x.dtype(), true) || !onednn::conv2d_dw(g, x, dy, dw))
        own_cpu_table().conv2d_dw(context, g, algorithm, x, dy, dw);
}
#endif

}  // namespace

const KernelTable& cpu_table() {
    static const KernelTable table = [] {
        chosen();
        KernelTable t = own_cpu_table();
#ifdef BF_HAVE_ONEDNN
        t.conv2d = conv2d;
        t.conv2d_dx = conv2d_dx;
        t.conv2d_dw = conv2d_dw;
#endif
        return t;
    }();
    return table;
}

void choose_cpu_conv(CpuConv choice) { chosen() = checked(choice); }

CpuBackend cpu_backend() {
    CpuBackend b{.choice = chosen(), .onednn = {}, .used_for = {}, .tiles = cpu::has_tiles()};
#ifdef BF_HAVE_ONEDNN
    b.onednn = onednn::version();
    if (b.choice == CpuConv::onednn)
        b.used_for = "convolutions in f32 and bf16";
    else if (b.choice == CpuConv::automatic && has_more_tiles())
        b.used_for = "bf16 convolutions (AMX)";
#endif
    return b;
}

}  // namespace bf

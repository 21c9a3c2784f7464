// What cuda/dnn_graph.cpp does through cuDNN, as plain loops.
#ifdef BF_CUDA_ON_CPU
#include <cuda_bf16.h>

#include "bf/math/element.hpp"
#include "cuda/dnn_graph.hpp"
#include "kernel.hpp"

namespace bf::cuda {
namespace {

template <class S>
void convolve(ConvPass pass, const ConvGeometry& g, const ConvBuffers& buffers) {
    S *x = static_cast<S*>(buffers.x), *w = static_cast<S*>(buffers.w), *y = static_cast<S*>(buffers.y);
    const std::int64_t in = g.c_in / g.groups, out = g.c_out / g.groups;
    const std::int64_t sizes[] = {g.n * g.h * g.w * g.c_in, g.c_out * g.kernel_h * g.kernel_w * in,
                                  g.n * g.h_out() * g.w_out() * g.c_out};
    const int which = pass == ConvPass::dx ? 0 : pass == ConvPass::dw ? 1 : 2;
    std::vector<float> sum(static_cast<std::size_t>(sizes[which]));
    for (std::int64_t n = 0; n < g.n; ++n)
        for (std::int64_t oh = 0; oh < g.h_out(); ++oh)
            for (std::int64_t ow = 0; ow < g.w_out(); ++ow)
                for (std::int64_t kh = 0; kh < g.kernel_h; ++kh)
                    for (std::int64_t kw = 0; kw < g.kernel_w; ++kw) {
                        const std::int64_t h = oh * g.stride - g.pad + kh, v = ow * g.stride - g.pad + kw;
                        if (h < 0 || v < 0 || h >= g.h || v >= g.w) continue;
                        for (std::int64_t o = 0; o < g.c_out; ++o) {
                            const std::int64_t at_x = ((n * g.h + h) * g.w + v) * g.c_in + o / out * in,
                                               at_w = ((o * g.kernel_h + kh) * g.kernel_w + kw) * in,
                                               at_y = ((n * g.h_out() + oh) * g.w_out() + ow) * g.c_out + o;
                            const auto value = [](const S* p, std::int64_t i) {
                                return math::element_cast<float>(p[i]);
                            };
                            const auto to = [&](std::int64_t i) -> float& { return sum[static_cast<std::size_t>(i)]; };
                            for (std::int64_t c = 0; c < in; ++c) switch (pass) {
                                    case ConvPass::forward: to(at_y) += value(x, at_x + c) * value(w, at_w + c); break;
                                    case ConvPass::dx: to(at_x + c) += value(y, at_y) * value(w, at_w + c); break;
                                    case ConvPass::dw: to(at_w + c) += value(y, at_y) * value(x, at_x + c); break;
                                }
                        }
                    }
    S* const result[] = {x, w, y};
    for (std::size_t i = 0; i < sum.size(); ++i) result[which][i] = math::element_cast<S>(sum[i]);
}

}  // namespace

void run_convolution(Context& context, const PlanKey& key, const ConvBuffers& buffers) {
    for (const void* p : {buffers.x, buffers.w, buffers.y})
        BF_CHECK(reinterpret_cast<std::uintptr_t>(p) % plan_alignment == 0, "conv2d", "address not aligned; got ", p,
                 ", want a multiple of ", plan_alignment);
    cuda_on_cpu::queue(backend(context).stream, [=] {
        if (key.dtype == DType::bf16)
            convolve<__nv_bfloat16>(key.pass, key.g, buffers);
        else
            convolve<float>(key.pass, key.g, buffers);
    });
}

std::vector<std::string> convolution_plans(Context&) { return {}; }

}  // namespace bf::cuda
#endif

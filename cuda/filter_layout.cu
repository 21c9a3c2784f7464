#include <cuda_bf16.h>

#include <cassert>

#include "bf/math/filter_layout.hpp"
#include "filter_layout.hpp"
#include "launch.cuh"

namespace bf::cuda {
namespace {

math::FilterShape filter_shape(const Tensor& w, const Tensor& krsc) {
    assert(w.dtype() == DType::f32 && w.format() == Format::plain && krsc.format() == Format::nhwc);
    BF_CHECK(krsc.numel() <= std::int64_t{UINT32_MAX} && w.numel() <= krsc.numel(), "conv2d",
             "weights too large for the GPU's index; got ", w.str(), ", padded to ", krsc.str());
    const auto size = [](std::int64_t n) { return static_cast<std::uint32_t>(n); };
    return {.out = size(w.dim(0)),
            .in = size(w.dim(1)),
            .taps = size(w.dim(2) * w.dim(3)),
            .out_padded = size(krsc.dim(0)),
            .in_padded = size(krsc.dim(1))};
}

}  // namespace

void filter_to_krsc(Context& context, const Tensor& w, const Tensor& krsc) {
    const math::FilterShape s = filter_shape(w, krsc);
    const auto* from = static_cast<const float*>(w.raw());
    if (krsc.dtype() == DType::bf16)
        for_each(context, s.padded_elements(),
                 math::FilterToKrsc<__nv_bfloat16>{s, from, static_cast<__nv_bfloat16*>(krsc.raw())});
    else
        for_each(context, s.padded_elements(), math::FilterToKrsc<float>{s, from, static_cast<float*>(krsc.raw())});
}

void filter_from_krsc(Context& context, const Tensor& krsc, const Tensor& dw) {
    const math::FilterShape s = filter_shape(dw, krsc);
    auto* to = static_cast<float*>(dw.raw());
    if (krsc.dtype() == DType::bf16)
        for_each(context, s.elements(),
                 math::FilterFromKrsc<__nv_bfloat16>{s, static_cast<const __nv_bfloat16*>(krsc.raw()), to});
    else
        for_each(context, s.elements(), math::FilterFromKrsc<float>{s, static_cast<const float*>(krsc.raw()), to});
}

void copy_channels(Context& context, const Tensor& from, const Tensor& to) {
    assert(from.dtype() == to.dtype() && from.format() == Format::nhwc && to.format() == Format::nhwc);
    const auto launch = [&]<class T>(T) {  // bits are copied as they are: an integer of the same size will do
        for_each(context, to.numel(),
                 math::CopyChannels<T>{from.dim(1), to.dim(1), static_cast<const T*>(from.raw()),
                                       static_cast<T*>(to.raw())});
    };
    if (size_of(from.dtype()) == 2)
        launch(std::uint16_t{});
    else
        launch(std::uint32_t{});
}

}  // namespace bf::cuda

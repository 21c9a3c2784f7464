#pragma once
#include "bf/kernels/table.hpp"

// Launches of the functors in bf/math/filter_layout.hpp. All tensors lie on the context's GPU.

namespace bf::cuda {

/// krsc [O', C', kh, kw] nhwc (that is KRSC in memory), f32 or bf16 = weights w [O, C, kh, kw] plain f32; zeros where
/// O' > O or C' > C.
void filter_to_krsc(Context& context, const Tensor& w, const Tensor& krsc);

/// dw [O, C, kh, kw] plain f32 = the first O filters and C channels of krsc [O', C', kh, kw] nhwc, f32 or bf16.
void filter_from_krsc(Context& context, const Tensor& krsc, const Tensor& dw);

/// to [N, C', H, W] = from [N, C, H, W], both nhwc of one dtype (f32 or bf16): zeros where C' > C; where C' < C the
/// last channels are left out.
void copy_channels(Context& context, const Tensor& from, const Tensor& to);

}  // namespace bf::cuda

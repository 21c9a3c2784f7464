#include <cassert>

#include "dnn_graph.hpp"
#include "filter_layout.hpp"

// Convolution on the GPU: images are nhwc, f32 or bf16, sums f32. Weights and their gradients are OIHW in f32 (master
// weights); the library works on KRSC in the dtype of the images, so each pass converts them: they are small beside the
// images, and no copy has to be kept in step with the optimizer.

namespace bf::cuda {
namespace {

/// One call: its geometry, and that of the plan, which may have more channels.
struct Call {
    Context& context;
    ConvGeometry g, wide;
    DType dtype;
    ConvAlgorithm algorithm;

    Call(Context& c, const ConvGeometry& geometry, ConvAlgorithm a, const Tensor& image)
        : context(c), g(geometry), dtype(image.dtype()), algorithm(a) {
        BF_CHECK(dtype == DType::f32 || dtype == DType::bf16, "conv2d", "dtype not supported on cuda; got ",
                 str(ConvPass::forward, g, dtype), ", want f32 or bf16; hint: ",
                 dtype == DType::f64 ? "f64 is for proofs, on device = \"cpu\"" : "convert() first");
        assert(image.format() == Format::nhwc);
        wide = padded(g, dtype, backend(context).tf32);
    }

    /// The image with `channels` channels at an address that plans take: itself, or a copy with zeros in the new ones.
    Tensor widened(const Tensor& image, std::int64_t channels) const {
        Tensor to = room_for(image, channels);
        if (!to.shares_storage(image)) copy_channels(context, image, to);
        return to;
    }
    /// Where the library may write an image of `channels` channels: the image itself if it will do.
    Tensor room_for(const Tensor& image, std::int64_t channels) const {
        if (image.dim(1) == channels && aligned(image.raw())) return image;
        return Tensor::empty({image.dim(0), channels, image.dim(2), image.dim(3)}, image.options());
    }
    /// Brings what was written into room_for(to) where it belongs, without the added channels.
    void narrow(const Tensor& from, const Tensor& to) const {
        if (!from.shares_storage(to)) copy_channels(context, from, to);
    }

    /// Where KRSC weights may stand: in w itself when both layouts are the same bytes (1x1 kernels in f32).
    Tensor filter_room(const Tensor& w) const {
        BF_CHECK(w.dtype() == DType::f32, "conv2d", "weights are kept in f32 on cuda; got ", w.str());
        assert(w.format() == Format::plain);
        if (dtype == DType::f32 && g.kernel_h * g.kernel_w == 1 && wide.c_in == g.c_in && wide.c_out == g.c_out &&
            aligned(w.raw()))
            return w;
        return Tensor::empty({wide.c_out, wide.c_in / wide.groups, g.kernel_h, g.kernel_w},
                             {.dtype = dtype, .device = w.device(), .format = Format::nhwc});
    }
    Tensor filter(const Tensor& w) const {
        const Tensor krsc = filter_room(w);
        if (!krsc.shares_storage(w)) filter_to_krsc(context, w, krsc);
        return krsc;
    }

    void run(ConvPass pass, const Tensor& x, const Tensor& w, const Tensor& y) const {
        const Backend& b = backend(context);
        const ConvSettings settings{.tf32 = b.tf32,
                                    .deterministic = b.deterministic,
                                    .autotune = b.autotune,
                                    .workspace_limit = b.workspace_limit};
        run_convolution(context, plan_key(pass, wide, dtype, algorithm, settings),
                        {.x = x.raw(), .w = w.raw(), .y = y.raw()});
    }
};

}  // namespace

void conv2d(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& w,
            const Tensor& y) {
    const Call call(context, g, algorithm, x);
    if (y.numel() == 0) return;
    const Tensor to = call.room_for(y, call.wide.c_out);
    call.run(ConvPass::forward, call.widened(x, call.wide.c_in), call.filter(w), to);
    call.narrow(to, y);
}

void conv2d_dx(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& dy, const Tensor& w,
               const Tensor& dx) {
    const Call call(context, g, algorithm, dy);
    if (dx.numel() == 0) return;
    const Tensor to = call.room_for(dx, call.wide.c_in);
    call.run(ConvPass::dx, to, call.filter(w), call.widened(dy, call.wide.c_out));
    call.narrow(to, dx);
}

void conv2d_dw(Context& context, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& dy,
               const Tensor& dw) {
    const Call call(context, g, algorithm, x);
    if (x.numel() == 0) {  // a sum over no images
        BF_CUDA(cudaMemsetAsync(dw.raw(), 0, dw.bytes(), backend(context).stream), "bytes ", dw.bytes());
        return;
    }
    const Tensor krsc = call.filter_room(dw);
    call.run(ConvPass::dw, call.widened(x, call.wide.c_in), krsc, call.widened(dy, call.wide.c_out));
    if (!krsc.shares_storage(dw)) filter_from_krsc(context, krsc, dw);
}

}  // namespace bf::cuda

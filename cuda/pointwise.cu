#include <bit>

#include "bf/kernels/visit.hpp"
#include "bf/math/index.hpp"
#include "bf/math/map.hpp"
#include "elements.cuh"

namespace bf::cuda {
namespace {

using T = const Tensor&;

template <class F>
void visit_any(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32: return f.template operator()<float>();
        case DType::f64: return f.template operator()<double>();
        case DType::bf16: return f.template operator()<__nv_bfloat16>();
        case DType::i32: return f.template operator()<std::int32_t>();
        case DType::i64: return f.template operator()<std::int64_t>();
        case DType::u8: return f.template operator()<std::uint8_t>();
    }
}

/// y = op(inputs...), element by element.
template <class S, class Op, class... In>
void map(Context& context, const Op& op, T y, const In&... in) {
    S* out = data<S>(y);
    using Functor = math::Map<Op, S, static_cast<int>(sizeof...(In))>;
    const Functor f{op, {data<S>(in)...}, out, y.numel(), aligned(out, data<S>(in)...)};
    for_each(context, Functor::groups(y.numel()), f);
}

template <class F>
__global__ void __launch_bounds__(256) transpose_kernel(std::int64_t tiles, F f) {
    __shared__ std::remove_pointer_t<decltype(f.y)> cell[F::side][F::side + 1];
    for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        f.read(tile, static_cast<int>(threadIdx.y), static_cast<int>(threadIdx.x), cell);
        __syncthreads();
        f.write(tile, static_cast<int>(threadIdx.y), static_cast<int>(threadIdx.x), cell);
        __syncthreads();
    }
}

template <class From, class To>
void transpose(Context& context, std::int64_t batch, std::int64_t rows, std::int64_t cols, const From* x, To* y) {
    const std::int64_t n = batch * rows * cols;
    if (n == 0) return;
    // integers are transposed where speed does not matter
    constexpr bool real = !std::is_integral_v<From> && !std::is_integral_v<To>;
    if constexpr (real) {
        if (rows > 8 && cols > 8) {
            const math::TransposeTile<From, To> f{x, y, rows, cols};
            const std::int64_t tiles = f.tiles(batch);
            launch_kernel(context, transpose_kernel<math::TransposeTile<From, To>>,
                          static_cast<unsigned>(math::smaller(tiles, 1 << 20)), dim3(f.side, f.lines), tiles, f);
            BF_CUDA(cudaGetLastError(), "matrices ", batch, " x ", rows, " x ", cols);
            return;
        }
    }
    for_each(context, n, math::Transpose<From, To>{x, y, rows, cols});
}

template <class Bits>
void fill_bits(Context& context, T y, Bits value) {
    Bits* out = static_cast<Bits*>(y.raw());
    for_each(context, math::Fill<Bits>::groups(y.numel()), math::Fill<Bits>{out, value, y.numel(), aligned(out)});
}

template <bool first>
void binary_gradient(Context& context, Binary op, T x, T z, T dy, T out) {
    visit_storage(dy.dtype(), "binary", [&]<class S>() {
        visit_binary(
            op, [&]<class F>() { map<S>(context, math::BinaryGradient<F, math::Compute<S>, first>{}, out, x, z, dy); });
    });
}

}  // namespace

void convert(Context& context, T x, T y) {
    if (x.numel() == 0) return;
    if (x.format() == y.format() && x.dtype() == y.dtype()) {
        BF_CUDA(cudaMemcpyAsync(y.raw(), x.raw(), x.bytes(), cudaMemcpyDeviceToDevice, backend(context).stream),
                "bytes ", x.bytes());
        return;
    }
    visit_any(x.dtype(), [&]<class From>() {
        visit_any(y.dtype(), [&]<class To>() {
            const From* in = static_cast<const From*>(x.raw());
            To* out = static_cast<To*>(y.raw());
            if (x.format() == y.format()) {
                using Functor = math::Cast<From, To>;
                for_each(context, Functor::groups(x.numel()), Functor{in, out, x.numel(), aligned(in, out)});
                return;
            }
            const std::int64_t plane = x.dim(2) * x.dim(3), channels = x.dim(1);
            if (y.format() == Format::nhwc)
                transpose(context, x.dim(0), channels, plane, in, out);
            else
                transpose(context, x.dim(0), plane, channels, in, out);
        });
    });
}

void fill(Context& context, T y, double value) {
    if (y.numel() == 0) return;
    if (std::bit_cast<std::uint64_t>(value) == 0) {  // +0: zero bytes in every dtype
        BF_CUDA(cudaMemsetAsync(y.raw(), 0, y.bytes(), backend(context).stream), "bytes ", y.bytes());
        return;
    }
    switch (y.dtype()) {
        case DType::f32: return fill_bits(context, y, std::bit_cast<std::uint32_t>(static_cast<float>(value)));
        case DType::f64: return fill_bits(context, y, std::bit_cast<std::uint64_t>(value));
        case DType::bf16: return fill_bits(context, y, bf16(static_cast<float>(value)).bits);
        case DType::i32: return fill_bits(context, y, static_cast<std::uint32_t>(static_cast<std::int32_t>(value)));
        case DType::i64: return fill_bits(context, y, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
        case DType::u8: return fill_bits(context, y, static_cast<std::uint8_t>(value));
    }
}

void axpby(Context& context, double alpha, T x, double beta, T y) {
    visit_storage(y.dtype(), "axpby", [&]<class S>() {
        using V = math::Compute<S>;
        const V a = static_cast<V>(alpha), b = static_cast<V>(beta);
        if (b == V(0))
            map<S>(context, math::Scaled<V>{a}, y, x);
        else
            map<S>(context, math::WeightedSum<V>{a, b}, y, x, y);
    });
}

void unary(Context& context, Unary op, double a, double b, T x, T y) {
    visit_storage(x.dtype(), "unary", [&]<class S>() {
        visit_unary(op, [&]<class F>() {
            using V = math::Compute<S>;
            map<S>(context, math::UnaryValue<F, V>{static_cast<V>(a), static_cast<V>(b)}, y, x);
        });
    });
}

void unary_dx(Context& context, Unary op, double a, double b, T x, T y, T dy, T dx) {
    visit_storage(x.dtype(), "unary", [&]<class S>() {
        visit_unary(op, [&]<class F>() {
            using V = math::Compute<S>;
            map<S>(context, math::UnaryGradient<F, V>{static_cast<V>(a), static_cast<V>(b)}, dx, x, y, dy);
        });
    });
}

void binary(Context& context, Binary op, T x, T z, T y) {
    visit_storage(x.dtype(), "binary", [&]<class S>() {
        visit_binary(op, [&]<class F>() { map<S>(context, math::BinaryValue<F, math::Compute<S>>{}, y, x, z); });
    });
}
void binary_dx(Context& context, Binary op, T x, T z, T dy, T dx) { binary_gradient<true>(context, op, x, z, dy, dx); }
void binary_dz(Context& context, Binary op, T x, T z, T dy, T dz) { binary_gradient<false>(context, op, x, z, dy, dz); }

void dropout(Context& context, double p, std::uint64_t seed, std::uint64_t step, T x, T y) {
    visit_storage(x.dtype(), "dropout", [&]<class S>() {
        const S* in = data<S>(x);
        S* out = data<S>(y);
        using Functor = math::Dropout<S>;
        for_each(context, Functor::groups(x.numel()),
                 Functor{random_key(seed, Stream::dropout), step, static_cast<float>(p),
                         static_cast<math::Compute<S>>(1 / (1 - p)), in, out, x.numel(), aligned(in, out)});
    });
}

}  // namespace bf::cuda

#pragma once
#include <cuda_bf16.h>

#include "bf/math/element.hpp"
#include "launch.cuh"

// Tensors as kernels see them: typed device pointers, dtype visitors, alignment.

namespace bf::cuda {

/// f32, f64, or bf16 as the device's type, which has the same bits.
template <class S>
inline constexpr DType storage_dtype =
    std::is_same_v<S, __nv_bfloat16> ? DType::bf16 : DTypeOf<math::Compute<S>>::value;

/// Device pointer to elements of storage type S.
template <class S>
S* data(const Tensor& t) {
    BF_CHECK(t.defined() && t.dtype() == storage_dtype<S>, "tensor", "dtype differs; got ", t.str(), ", want ",
             name_of(storage_dtype<S>));
    return static_cast<S*>(t.raw());
}
inline std::int64_t* indices(const Tensor& t) {
    BF_CHECK(t.defined() && t.dtype() == DType::i64, "tensor", "dtype differs; got ", t.str(), ", want i64");
    return static_cast<std::int64_t*>(t.raw());
}

/// Calls f with the storage type of a dtype that kernels compute with: float, double or __nv_bfloat16.
template <class F>
void visit_storage(DType dtype, const char* op, F&& f) {
    if (dtype == DType::f32) return f.template operator()<float>();
    if (dtype == DType::f64) return f.template operator()<double>();
    if (dtype == DType::bf16) return f.template operator()<__nv_bfloat16>();
    fail(ErrorCode::usage, op, "dtype not supported; got ", name_of(dtype), ", want f32, f64 or bf16");
}

/// True when all pointers allow 16-byte accesses.
template <class... P>
bool aligned(const P*... p) {
    return ((reinterpret_cast<std::uintptr_t>(p) | ...) & 15) == 0;
}

/// Calls f with the number of channels that a thread takes: 16 bytes where `packed`, else one.
template <class S, class F>
void visit_lanes(bool packed, F&& f) {
    if (packed)
        f.template operator()<math::pack_size<S>>();
    else
        f.template operator()<1>();
}

/// Memory for the time of a call; it returns to the cache in the order of the stream.
inline Tensor scratch(Context& context, const Shape& shape, DType dtype) {
    return Tensor::empty(shape, {.dtype = dtype, .device = context.device});
}

}  // namespace bf::cuda

#pragma once
#include "bf/math/pointwise.hpp"
#include "bf/math/reduce.hpp"

// From an op's number to its functor: kernels of every device are expanded from the same lists.

namespace bf {

/// Calls f.template operator()<Functor>() with the functor that `op` names.
template <class F>
void visit_unary(Unary op, F&& f) {
#define BF_CASE(name, Functor) \
    case Unary::name: return f.template operator()<math::Functor>();
    switch (op) { BF_UNARY_OPS(BF_CASE) }
#undef BF_CASE
}
template <class F>
void visit_binary(Binary op, F&& f) {
#define BF_CASE(name, Functor) \
    case Binary::name: return f.template operator()<math::Functor>();
    switch (op) { BF_BINARY_OPS(BF_CASE) }
#undef BF_CASE
}
template <class F>
void visit_reduce(Reduce op, F&& f) {
#define BF_CASE(name, Functor) \
    case Reduce::name: return f.template operator()<math::Functor>();
    switch (op) { BF_REDUCE_OPS(BF_CASE) }
#undef BF_CASE
}

}  // namespace bf

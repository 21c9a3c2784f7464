// A device reduces in a tree. Each reducer of math/reduce.hpp is folded in trees here and compared with the plain
// order.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/math/reduce.hpp"

namespace {

/// Pairs of neighbours at a distance that doubles, as the threads of a block reduce.
template <class R>
double tree(std::vector<double> lanes, double n) {
    for (std::size_t distance = 1; distance < lanes.size(); distance *= 2)
        for (std::size_t i = 0; i + distance < lanes.size(); i += 2 * distance)
            lanes[i] = R::combine(lanes[i], lanes[i + distance]);
    return R::finish(lanes[0], n);
}

template <class R>
void expect_tree_equals_order(const char* name) {
    bf::Rng rng(5);
    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{37}, std::size_t{1000}})
        for (const std::size_t width : {std::size_t{1}, std::size_t{32}, std::size_t{256}}) {
            std::vector<double> lanes(width, R::template identity<double>());
            double in_order = R::template identity<double>();
            for (std::size_t i = 0; i < count; ++i) {
                const double x = R::map(static_cast<double>(rng.normal()));
                in_order = R::combine(in_order, x);
                lanes[i % width] = R::combine(lanes[i % width], x);  // a thread strides over the elements
            }
            const auto n = static_cast<double>(count);
            EXPECT_NEAR(tree<R>(lanes, n), R::finish(in_order, n), 1e-11) << name << " " << count << " over " << width;
        }
}

TEST(ReduceTree, EveryReducerIsAssociativeWithItsIdentity) {
#define BF_ROW(name, Functor) expect_tree_equals_order<bf::math::Functor>(#name);
    BF_REDUCE_OPS(BF_ROW)
#undef BF_ROW
}

}  // namespace

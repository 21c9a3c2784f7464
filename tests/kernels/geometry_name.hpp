#pragma once
#include <string>

#include "bf/base/error.hpp"
#include "bf/kernels/conv.hpp"

/// A convolution as a failing test names it.
inline std::string name(const bf::ConvGeometry& g) {
    return bf::concat("n ", g.n, " c ", g.c_in, "->", g.c_out, " image ", g.h, "x", g.w, " kernel ", g.kernel_h, "x",
                      g.kernel_w, " stride ", g.stride, " pad ", g.pad, " groups ", g.groups);
}

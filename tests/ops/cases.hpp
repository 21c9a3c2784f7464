#pragma once
#include <functional>
#include <string>
#include <vector>

#include "bf/autograd/var.hpp"
#include "bf/base/random.hpp"

namespace bf::proof {

/// How the values of an input are drawn; a kinked op keeps away from its kink.
enum class Draw { normal, away_from_zero, positive, distinct };

/// Which inputs a device takes in bf16; the others stay f32, as parameters do.
enum class Bf16 { none, first, all };

struct Input {
    Shape shape;
    Draw draw = Draw::normal;
    Format format = Format::plain;
};

/// One op, one row. From it follow the f64 gradient check, f32 against f64, gradients added to what was there,
/// missing writes (memory poisoned with NaN), empty and odd sizes where the row lists them, and CUDA against CPU
/// where a device is present.
struct Case {
    std::string op;    ///< the public function
    std::string note;  ///< what this row is about
    std::vector<Input> inputs;
    std::function<Var(const std::vector<Var>&)> f;
    double f32_tolerance = 1e-5;  ///< relative to the largest output or gradient, at least 0.1
    double step = 1e-5;           ///< of the gradient check; a linear op may take a larger one
    bool gradient = true;         ///< false: an empty input, where only shapes are checked
    // a device against the CPU, both relative to the largest output or gradient, at least 0.1; bf16 against f32 from
    // the same rounded inputs
    double device_tolerance = 1e-4;
    Bf16 bf16 = Bf16::all;
    double bf16_tolerance = 2e-2;
};

const std::vector<Case>& cases();

}  // namespace bf::proof

#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

namespace bf::math {

/// Compensates one past embedding for how its identity's row of W has moved (BroadFace eq. 7):
/// e* = e + (|e| / |w_then|) (w_now - w_then), norms of the stored pair. `direction_only` compares unit rows:
/// e* = e + |e| (w_now / |w_now| - w_then / |w_then|), which leaves out the radial part that weight decay causes.
struct Compensation {
    bool direction_only = false;

    /// e, w_then, w_now, out: D values; out may be e.
    template <class T>
    BF_HD void operator()(const T* e, const T* w_then, const T* w_now, T* out, long long dim) const {
        T ee = 0, tt = 0, nn = 0;
        for (long long d = 0; d < dim; ++d) {
            ee += e[d] * e[d];
            tt += w_then[d] * w_then[d];
            nn += w_now[d] * w_now[d];
        }
        const T tiny = static_cast<T>(1e-12);
        const T norm_e = std::sqrt(ee), norm_then = at_least(std::sqrt(tt), tiny),
                norm_now = at_least(std::sqrt(nn), tiny);
        const T then = norm_e / norm_then, now = norm_e / norm_now;
        if (direction_only)
            for (long long d = 0; d < dim; ++d) out[d] = e[d] + (now * w_now[d] - then * w_then[d]);
        else  // a row that did not move leaves e as it is, to the bit
            for (long long d = 0; d < dim; ++d) out[d] = e[d] + then * (w_now[d] - w_then[d]);
    }

  private:
    template <class T>
    BF_HD static T at_least(T value, T least) {
        return value > least ? value : least;
    }
};

}  // namespace bf::math

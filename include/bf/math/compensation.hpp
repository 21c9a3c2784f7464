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
        const Factors<T> f = factors(ee, tt, nn);
        for (long long d = 0; d < dim; ++d) out[d] = entry(e[d], w_then[d], w_now[d], f);
    }
    /// What multiplies the two rows of W.
    template <class T>
    struct Factors {
        T then, now;
    };
    /// From the squared norms of e, w_then and w_now.
    template <class T>
    BF_HD Factors<T> factors(T ee, T tt, T nn) const {
        const T tiny = static_cast<T>(1e-12), norm_e = std::sqrt(ee);
        return {norm_e / at_least(std::sqrt(tt), tiny), norm_e / at_least(std::sqrt(nn), tiny)};
    }
    /// One value of the row.
    template <class T>
    BF_HD T entry(T e, T w_then, T w_now, const Factors<T>& f) const {
        // without direction_only a row that did not move leaves e as it is, to the bit
        return direction_only ? e + (f.now * w_now - f.then * w_then) : e + f.then * (w_now - w_then);
    }

  private:
    template <class T>
    BF_HD static T at_least(T value, T least) {
        return value > least ? value : least;
    }
};

}  // namespace bf::math

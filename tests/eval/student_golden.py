# Writes student_golden.txt with SciPy: quantiles of Student's t, and intervals of means and of paired differences.
#   python3 tests/eval/student_golden.py > tests/eval/student_golden.txt
import numpy as np
from scipy import stats


def put(name, values):
    print(name, len(values), *("%.17g" % v for v in values))


p = [0.5, 0.6, 0.9, 0.975, 0.995, 0.9999, 0.025]
freedom = [1, 2, 2.5, 3, 4, 9, 30, 1000]
put("p", p)
put("freedom", freedom)
put("quantiles", [stats.t.ppf(q, f) for f in freedom for q in p])
put("t", [0, 0.1, 1, 1.7, 2.5, 20, 1000])
put("tails", [stats.t.sf(t, f) for f in freedom for t in (0, 0.1, 1, 1.7, 2.5, 20, 1000)])
rng = np.random.default_rng(5)
a = rng.normal(80, 1, 7)
b = a + rng.normal(0.8, 0.5, 7)
put("a", a)
put("b", b)
put("interval", [a.mean(), *stats.t.interval(0.95, 6, a.mean(), stats.sem(a))])
paired = stats.ttest_rel(b, a).confidence_interval(0.95)
put("paired", [(b - a).mean(), paired.low, paired.high])

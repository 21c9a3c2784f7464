#!/bin/sh
# House rules that grep can see (docs/concepts.md): includes run one way, math/ stays compilable for a device, Eigen and
# CUDA stay in their places, headers stay short. Usage: check_includes.sh REPOSITORY. Prints each line that breaks a rule.
cd "$1/include/bf" || exit 1
broken=0

# report RULE LINES: counts a rule as broken when there are lines.
report() {
    [ -z "$2" ] && return
    printf '%s:\n%s\n' "$1" "$2"
    broken=1
}

report 'included against the direction' "$(grep -rn --include='*.hpp' '#include "bf/' . | awk -F'[/:"]' '
    BEGIN {
        count = split("base math core kernels autograd ops nn models train", order, " ")
        for (i = 1; i <= count; ++i) level[order[i]] = i
        level["data"] = level["io"] = level["eval"] = level["core"]
        level["optim"] = level["ops"]
    }
    {
        from = $2
        split($0, quoted, "\"")
        split(quoted[2], path, "/")
        to = path[2]
        if (!(from in level)) next  # the umbrella header
        if (!(to in level) || level[to] > level[from]) print
    }')"
report 'math/ includes more than base/ and arithmetic headers' "$(grep -rn --include='*.hpp' '#include' math 2>/dev/null |
    grep -vE '#include (<(cmath|cstddef|cstdint|limits|type_traits)>|"bf/(base|math)/)')"
report 'Eigen outside kernels/cpu_*.hpp' "$(grep -rnE --include='*.hpp' '#include [<"](unsupported/)?Eigen' . |
    grep -v '^./kernels/cpu_')"
report 'CUDA header' "$(grep -rnE --include='*.hpp' '#include [<"](cuda|cudnn|cublas|curand|nccl)' .)"
report 'over 500 lines' "$(find . -name '*.hpp' -exec wc -l {} \; | awk '$1 > 500')"
report 'no #pragma once' "$(grep -rL --include='*.hpp' '^#pragma once' .)"
exit $broken

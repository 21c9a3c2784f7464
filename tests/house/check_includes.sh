#!/bin/sh
# Includes run one way (docs/concepts.md): a header includes its own level or lower. Prints each line that does not.
cd "$1/include/bf" || exit 1
bad=$(grep -rn '#include "bf/' . | awk -F'[/:"]' '
    BEGIN {
        split("base math core kernels autograd ops nn models train", order, " ")
        for (i in order) level[order[i]] = i
        level["data"] = level["io"] = level["eval"] = 3
        level["optim"] = 6
    }
    {
        from = $2; n = split($0, part, "\""); split(part[2], path, "/"); to = path[2]
        if (!(from in level) || !(to in level)) next
        if (level[to] > level[from]) print
        if (from == "optim" && to == "nn") print
    }')
long=$(find . -name '*.hpp' | xargs wc -l | awk '$2 != "total" && $1 > 500')
eigen=$(grep -rln '<Eigen' . | grep -v '^./kernels/cpu_')
cuda=$(grep -rnE '#include <(cuda|cudnn|cublas|nccl)' .)
[ -z "$bad$long$eigen$cuda" ] && exit 0
printf 'includes against the direction:\n%s\nover 500 lines:\n%s\nEigen outside kernels/cpu_*:\n%s\nCUDA headers:\n%s\n' \
    "$bad" "$long" "$eigen" "$cuda"
exit 1

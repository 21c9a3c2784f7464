#!/bin/sh
# Every call of a CUDA library (cuda*, cublas*, cudnn*, nccl*) in cuda/ stands inside BF_CUDA(...). Prints each bare call
# and their count; fails unless it is 0. Exceptions: cuda_calls_allowed.txt. Usage: check_cuda_calls.sh REPOSITORY
cd "$1" || exit 1
allowed=tests/house/cuda_calls_allowed.txt
files=$(find cuda -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | sort)
[ -n "$files" ] || { echo "no file in cuda/"; exit 1; }
[ -f "$allowed" ] || allowed=/dev/null
# shellcheck disable=SC2086
awk -v allowed_file="$allowed" '
    BEGIN {
        while ((getline line < allowed_file) > 0)
            if (line !~ /^#/ && split(line, w, " ") >= 2) allowed[w[1] " " w[2]] = 1
    }
    FNR == 1 { comment = 0; depth = 0; waits = 0; preprocessor = 0; name = "" }
    {
        text = $0
        # comments, strings and characters go; a macro may be used in an #if, so those lines stay
        clean = ""
        while (text != "") {
            if (comment) {
                end = index(text, "*/")
                if (!end) { text = ""; break }
                text = substr(text, end + 2)
                comment = 0
                continue
            }
            if (!match(text, /\/\/|\/\*|"|\047/)) { clean = clean text; break }
            mark = substr(text, RSTART, RLENGTH)
            before = substr(text, 1, RSTART - 1)
            text = substr(text, RSTART + RLENGTH)
            clean = clean before
            if (mark == "//") break
            if (mark == "/*") { comment = 1; clean = clean " "; continue }
            if (mark == "\047" && before ~ /[0-9a-fA-F]$/ && text ~ /^[0-9a-fA-F]/) continue  # 1 000 written with a mark
            while (text != "") {
                c = substr(text, 1, 1)
                text = substr(text, 2)
                if (c == "\\") text = substr(text, 2)
                else if (c == mark) break
            }
            clean = clean "0"
        }
        if (clean ~ /^[ \t]*#[ \t]*include/) next
        # words and brackets one after the other; depth counts the brackets of an open BF_CUDA(
        while (match(clean, /[A-Za-z_][A-Za-z_0-9]*|[()]|[^ \t]/)) {
            token = substr(clean, RSTART, RLENGTH)
            clean = substr(clean, RSTART + RLENGTH)
            if (token == "(") {
                if (depth) ++depth
                else if (name == "BF_CUDA") depth = 1
                else if (name ~ /^(cuda|cublas|cublasLt|cudnn|nccl)[A-Z]/ && name !~ /_t$/ && !member) {
                    file = FILENAME
                    sub(/.*\//, "", file)
                    if (!((file " " name) in allowed)) {
                        printf "%s:%d: %s stands without BF_CUDA\n", FILENAME, name_line, name
                        ++bare
                    }
                }
            } else if (token == ")" && depth) --depth
            member = token ~ /^[A-Za-z_]/ ? (last == "." || last2 last == "->") : 0
            if (token ~ /^[A-Za-z_]/) { name = token; name_line = FNR } else name = ""
            last2 = last
            last = token
        }
    }
    END { printf "%d bare calls\n", bare; exit bare > 0 }' $files

#!/bin/bash
# check.sh: shellcheck of every shell script here: most of them build or start what `make test` does not. Some seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cross/deps.sh shellcheck
scripts=()
while IFS= read -r -d '' file; do
    case $(head -c 64 "$file" | tr -d '\0' | head -n 1) in '#!/bin/sh' | '#!/bin/bash') scripts+=("$file") ;; esac
done < <(git ls-files -z --cached --others --exclude-standard)
[ "${#scripts[@]}" -gt 20 ] || { echo "check: only ${#scripts[@]} scripts found: is this a git work tree?" >&2; exit 1; }
# Not what it cannot follow: files that are sourced, and their variables.
shellcheck --severity=warning --exclude=SC1091,SC2154 "${scripts[@]}"

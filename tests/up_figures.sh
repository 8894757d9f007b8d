#!/bin/sh
# From `gregal up` on an empty folder to its first answered request, and what it weighs when idle. Prints JSON.
set -eu
program=$1
folder=$(mktemp -d)
touch "$folder.out" "$folder.err"
start=$(date +%s%3N)
"$program" up --data-dir "$folder" --control-listen 127.0.0.1:0 --site-listen 127.0.0.1:0 >"$folder.out" 2>"$folder.err" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$folder" "$folder.out" "$folder.err"' EXIT
while :; do
    url=$(sed -n 's/^api *\(.*\)\/api\/v1$/\1/p' "$folder.out")
    key=$(sed -n 's/^admin *\(gk_[^ ]*\).*/\1/p' "$folder.out")
    if [ -n "$url" ] && [ -n "$key" ] && GREGAL_URL=$url GREGAL_KEY=$key "$program" site list >/dev/null 2>&1; then break; fi
    kill -0 "$pid" || { cat "$folder.err" >&2; exit 1; }
done
end=$(date +%s%3N)
# Idle means settled: the same resident size at two looks, two seconds apart.
last=0
while :; do
    sleep 2
    rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
    [ "$rss" = "$last" ] && break
    last=$rss
done
printf '{"first_answer_ms": %s, "idle_rss_mib": %s}\n' "$((end - start))" "$((rss / 1024))"

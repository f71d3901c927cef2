#!/bin/sh
# Makes a web server's log of 20,000 lines and asks it which address had most
# errors and how many bytes went out: generate | filter | group | add up.
set -eu
log=$(mktemp)
trap 'rm -f "$log"' EXIT

awk 'BEGIN {
    for (i = 1; i <= 20000; i++) {
        seed = (seed * 1103 + 12345) % 65536
        status = seed % 10 == 0 ? 500 : 200
        printf "10.0.0.%d GET /page%d %d %d\n", seed % 17, i % 40, status, seed % 1000
    }
}' > "$log"

bytes=$(cut -d' ' -f5 "$log" | awk '{ sum += $1 } END { printf "%d", sum }')
errors=$(grep ' 500 ' "$log" | cut -d' ' -f1 | sort | uniq -c | sort -k1,1nr -k2 | head -n 1 | awk '{ print $2 ":" $1 }')

echo "bytes $bytes, most errors $errors"
if [ "$bytes $errors" = "9892056 10.0.0.2:124" ]; then
    echo "pipeline ok"
else
    echo "pipeline WRONG"
    exit 1
fi

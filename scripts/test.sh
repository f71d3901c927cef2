#!/usr/bin/env bash
# Every check and every test; `scripts/test.sh lint` stops before the tests.
#
# All stages run, whatever fails. The last line is for machines:
#   N passed, N failed, N skipped
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
stage() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    printf -- '-- %s: ok, %s s\n' "$name" $((SECONDS - start))
  else
    failed+=("$name")
    printf -- '-- %s: FAILED, %s s\n' "$name" $((SECONDS - start))
  fi
}

docs() { RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps; }

deny() {
  cargo deny --log-level warn check --hide-inclusion-graph bans licenses sources || return
  # Known flaws are listed in a database that is fetched: without it there is nothing to check.
  if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --log-level warn check --disable-fetch advisories
  else
    echo 'skipped: advisories: the database cannot be fetched from here'
  fi
}

stage fmt cargo fmt --all --check
stage clippy cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
stage doc docs
stage tidy cargo xtask tidy
stage deny deny
stage machete cargo machete
stage typos typos

if [ "${1:-}" = lint ]; then
  printf '\n%s of the checks failed: %s\n' ${#failed[@]} "${failed[*]:-none}"
  exit $((${#failed[@]} > 0))
fi

# What a machine must be able to do after scripts/setup.sh: a skip for want of
# one of these is a failure.
require=command,python
[ "$(id -u)" = 0 ] && require+=,root,user,subuid
[ "$(uname -m)" = x86_64 ] && require+=,guest,disk-image
[ "${CI:-}" = true ] && require+=,userns,filesystem
export HYPERION_REQUIRE=${HYPERION_REQUIRE-$require}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HYPERION_SKIPS=$work/skips HYPERION_INSIDE=$work/inside
touch "$HYPERION_SKIPS" "$HYPERION_INSIDE"

nextest() {
  # cargo builds binaries only for the tests of their own package.
  cargo build --quiet --locked --workspace --bins &&
    cargo nextest run --locked --workspace --profile "$([ "${CI:-}" = true ] && echo ci || echo default)" \
      --color never 2>&1 | tee "$work/nextest"
}

stage tests nextest
stage doctests cargo test --quiet --locked --workspace --doc

# `Summary [ 1.2s] 45 tests run: 44 passed (1 slow), 1 failed, 0 skipped`
count() { grep -a 'Summary \[' "$work/nextest" | tail -1 | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0; }
skips=$(wc -l <"$HYPERION_SKIPS")
if [ "$skips" -gt 0 ]; then
  printf '\nskipped for want of something on this machine:\n'
  cut -f2 "$HYPERION_SKIPS" | sort | uniq -c | sort -rn
fi
# Tests that ran in a guest are counted one by one, beside the one that booted it.
inside=$(awk '{ n += $1 } END { print n + 0 }' "$HYPERION_INSIDE")
passed=$(($(count passed) + inside - skips))
broken=$(($(count failed) + $(count 'timed out') + $(count 'exec failed')))
# A stage that failed is a failure even when no test did.
for name in "${failed[@]}"; do
  [ "$name" = tests ] && [ "$broken" -gt 0 ] || broken=$((broken + 1))
done
printf '\nfailed stages: %s; HYPERION_REQUIRE=%s; %s of the tests inside guests; %s s\n' \
  "${failed[*]:-none}" "$HYPERION_REQUIRE" "$inside" "$SECONDS"
printf '%s passed, %s failed, %s skipped\n' "$passed" "$broken" "$((skips + $(count skipped)))"
exit $((broken > 0))

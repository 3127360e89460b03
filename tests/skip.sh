# shellcheck shell=bash
# What a test says that leaves something out, and where .ci/run counts it. To be sourced.
#
# `installable` is what an install of a package would cure: .ci/run fails for it where CI is set
# and packages can be installed, which takes root and apt.
# `unavailable` is what this machine cannot do or reach.

# left_out installable|unavailable PART REASON...: PART is not tested; the test goes on.
left_out() {
  local kind=$1 part=$2
  shift 2
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || kind=unavailable
  printf '\n*** SKIPPED: %s: %s ***\n\n' "$part" "$*"
  # Set by .ci/run, which reads it at the end.
  [ -z "${CI_SKIPPED:-}" ] || printf '%s\t%s: %s\n' "$kind" "$part" "$*" >>"$CI_SKIPPED"
}

# skip installable|unavailable PART REASON...: the same, and the test ends without a failure.
skip() {
  left_out "$@"
  exit 0
}

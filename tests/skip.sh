# shellcheck shell=bash
# Reports the parts that a test leaves out, and counts them for .ci/run. Scripts source this.
#
# `installable`: a package is missing. .ci/run fails for it if CI is set and packages can be installed,
# which needs root and apt.
# `unavailable`: this machine cannot do it, or cannot reach something.

# left_out installable|unavailable PART REASON...: PART is not tested; the test goes on.
left_out() {
  local kind=$1 part=$2
  shift 2
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || kind=unavailable
  printf '\n*** SKIPPED: %s: %s ***\n\n' "$part" "$*"
  # Set by .ci/run, which reads it at the end.
  [ -z "${CI_SKIPPED:-}" ] || printf '%s\t%s: %s\n' "$kind" "$part" "$*" >>"$CI_SKIPPED"
}

# skip installable|unavailable PART REASON...: PART is not tested; the test ends without a failure.
skip() {
  left_out "$@"
  exit 0
}

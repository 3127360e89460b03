//! `pepay-bridge completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Error};

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that completes this command line.
pub(super) fn completions(arguments: &Arguments) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), super::NAME, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if arguments.shell == Shell::Bash {
        // clap_complete 4.6 spells the dash of a program's name in two ways. Without this replacement the
        // script finds no options of a command.
        script = script.replace("pepay__subcmd__bridge", "pepay__bridge");
    }
    super::print(&with_names(arguments.shell, script))
}

/// Returns `script` with completion of the names of targets and streams of the running bridge. The
/// scripts for Elvish and PowerShell complete no names.
fn with_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// The completion function of Bash. It completes names, and calls the generated function for everything
/// else.
const BASH: &str = r#"
_pepay_bridge_with_names() {
    local word skip="" kind="" cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
    local -a words=() reach=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ -n ${skip} ]]; then
            reach+=("${word}")
            skip=""
        elif [[ ${word} == --config || ${word} == --admin-url ]]; then
            reach+=("${word}")
            skip=1
        elif [[ ${word} != -* ]]; then
            words+=("${word}")
        fi
    done
    case "${words[*]}" in
        "targets pause"|"targets resume"|"targets test") kind=targets ;;
        "deliveries retry"|"deliveries release"|"deliveries close"|"deliveries cancel") kind=targets ;;
        "streams reconnect"|"streams backfill") kind=streams ;;
    esac
    if [[ ${prev} == --target ]]; then
        kind=targets
    elif [[ -n ${skip} || ${cur} == -* || ${prev} == --?* ]]; then
        kind=""
    fi
    if [[ -z ${kind} ]]; then
        _pepay__bridge "$@"
        return
    fi
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" complete-names "${kind}" "${reach[@]}" 2>/dev/null)" -- "${cur}"))
}
complete -F _pepay_bridge_with_names -o bashdefault -o default pepay-bridge
"#;

const FISH: &str = r#"
complete -c pepay-bridge -n "__fish_seen_subcommand_from events deliveries" -l target -x -a "(pepay-bridge complete-names targets 2>/dev/null)"
complete -c pepay-bridge -n "__fish_seen_subcommand_from targets; and __fish_seen_subcommand_from pause resume test" -f -a "(pepay-bridge complete-names targets 2>/dev/null)"
complete -c pepay-bridge -n "__fish_seen_subcommand_from deliveries; and __fish_seen_subcommand_from retry release close cancel" -f -a "(pepay-bridge complete-names targets 2>/dev/null)"
complete -c pepay-bridge -n "__fish_seen_subcommand_from streams; and __fish_seen_subcommand_from reconnect backfill" -f -a "(pepay-bridge complete-names streams 2>/dev/null)"
"#;

const ZSH: &str = r#"
_pepay_bridge_targets() { local -a names=(${(f)"$(pepay-bridge complete-names targets 2>/dev/null)"}); compadd -a names }
_pepay_bridge_streams() { local -a names=(${(f)"$(pepay-bridge complete-names streams 2>/dev/null)"}); compadd -a names }
"#;

/// Returns the script for Zsh with the completion of names. The generated script has an action per value,
/// and `_default` for a value that clap does not complete.
fn zsh(script: &str) -> String {
    let action = |line: &str| {
        let of = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.starts_with(beginning));
        let names = if of(&["'--target=[", "':target -- ", "'::of_target -- "]) {
            ":_pepay_bridge_targets'"
        } else if of(&["':stream -- "]) {
            ":_pepay_bridge_streams'"
        } else {
            ":_default'"
        };
        line.replace(":_default'", names) + "\n"
    };
    let (head, rest) = script.split_once('\n').unwrap_or((script, ""));
    format!("{head}\n{ZSH}{}", rest.lines().map(action).collect::<String>())
}

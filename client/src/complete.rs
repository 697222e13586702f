//! `vspc completions` and `vspc man`: what a package puts beside the program.
//!
//! Owns how a shell comes by the names of consoles: it asks the server, by a command that is in no help.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::Shell;
use vspc_man::Facts;

use crate::args::{CompletionsArgs, ManArgs, Options};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output;

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Options::command(), "vspc", &mut script);
    let mut script = String::from_utf8(script).map_err(|error| Failure::error(error.to_string()))?;
    match args.shell {
        Shell::Bash => script.push_str(BASH),
        Shell::Fish => script.push_str(FISH),
        Shell::Zsh => {
            script = script.replace("the beginning of one:_default", "the beginning of one:_vspc_consoles");
            script = script.replacen("_vspc() {", &format!("{ZSH}_vspc() {{"), 1);
        }
        // The others complete what stands in the help.
        _ => {}
    }
    io::stdout().write_all(script.as_bytes()).map_err(|error| Failure::output(&error))
}

/// Prints the names of consoles that a shell can take as a word; UUIDs in place of the others.
pub(crate) fn names(open: impl FnOnce() -> Result<Connection, Failure>) -> Result<(), Failure> {
    // Whoever pressed the tab key waits for it.
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        std::process::exit(1);
    });
    let consoles = open()?.list(None, MOST)?;
    let is_word = |text: &&str| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
    };
    let words = consoles
        .iter()
        .filter_map(|console| ["name", "uuid"].iter().filter_map(|key| console[*key].as_str()).find(is_word));
    output::print(words)
}

/// Prints the manual page of `vspc`, or writes it and those of its commands into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let pages = vspc_man::pages(Options::command(), &FACTS);
    vspc_man::put(&pages, args.folder.as_deref()).map_err(|error| Failure::output(&error))
}

/// What the manual page has that help does not tell.
const FACTS: Facts<'_> = Facts {
    summary: "console client of a virtual serial port concentrator",
    sections: &[
        (
            "Files",
            &[(
                "~/.config/vspc/config.toml",
                "Names of servers, the default one, and the key that opens the menu.",
            )],
        ),
        (
            "Environment",
            &[
                ("VSPC_SERVER", "The server, where `--server` is not given."),
                ("PAGER", "What shows earlier output from the menu; `less` without it."),
                ("TMPDIR", "Where `cp` keeps what it reads of the standard input."),
                ("NO_COLOR", "No colours, where this is set."),
                ("XDG_CONFIG_HOME", "Where that file's folder is, if not in ~/.config."),
            ],
        ),
    ],
    see_also: &["vspc-mio(1)", "vspc-conformance(1)", "vspc(7)"],
};

/// What a tab key is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names that a shell is given at most.
const MOST: usize = 10_000;

const BASH: &str = r#"
_vspc_consoles() {
    local at words line="${COMP_LINE:0:COMP_POINT}" server=() current="${COMP_WORDS[COMP_CWORD]}"
    local takes_name= takes_place= guest=
    # COMP_WORDS has an address in pieces, for its colons.
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    for ((at = 1; at < ${#words[@]} - 1; at++)); do
        # What follows the name is the guest's, whatever it is called.
        [[ -n $guest && ${words[at]} != -* ]] && { takes_name=; continue; }
        case "${words[at]}" in
            -s|--server|--protocol|--ca|--cert|--key) server+=("${words[at]}" "${words[at + 1]}") ;;
            --server=*|--protocol=*|--ca=*|--cert=*|--key=*) server+=("${words[at]}") ;;
            attach|tail|log|send|who|break|bump|kick|give-input) takes_name=1 ;;
            exec|shell|forward|facts|streams) takes_name=1; guest=1 ;;
            cp) takes_place=1 ;;
        esac
    done
    case "${COMP_WORDS[COMP_CWORD - 1]}" in -*) takes_name= ;; esac
    if [[ -n $takes_name && $current != -* ]]; then
        local IFS=$'\n'
        COMPREPLY=($(compgen -W "$(vspc "${server[@]}" names 2>/dev/null)" -- "$current"))
    elif [[ -n $takes_place && $current != -* && $line != *:/* ]]; then
        # Files are what bash completes where this finds nothing.
        local IFS=$'\n'
        COMPREPLY=($(compgen -S :/ -W "$(vspc "${server[@]}" names 2>/dev/null)" -- "$current"))
        compopt -o nospace
    elif [[ -n $takes_place && $current != -* ]]; then
        COMPREPLY=()
    else
        _vspc "$@"
    fi
}
complete -F _vspc_consoles -o bashdefault -o default vspc
"#;

const FISH: &str = r#"
function __vspc_consoles
    set -l words (commandline -opc)
    set -l server
    for at in (seq (count $words))
        switch $words[$at]
            case -s --server --protocol --ca --cert --key
                set -a server $words[$at] $words[(math $at + 1)]
            case '--server=*' '--protocol=*' '--ca=*' '--cert=*' '--key=*'
                set -a server $words[$at]
        end
    end
    vspc $server names 2>/dev/null
end
set -l commands attach tail log send exec shell forward facts streams who break bump kick give-input
complete -c vspc -n "__fish_seen_subcommand_from $commands" -f -a "(__vspc_consoles)"
complete -c vspc -n "__fish_seen_subcommand_from cp" -a "(__vspc_consoles | string replace -r '$' ':/')"
"#;

const ZSH: &str = r#"_vspc_consoles() {
    local -a line consoles server
    local at
    line=(${(z)BUFFER})
    for (( at = 1; at <= $#line; at++ )); do
        case $line[at] in
            (-s|--server|--protocol|--ca|--cert|--key) server+=($line[at] $line[at+1]) ;;
            (--server=*|--protocol=*|--ca=*|--cert=*|--key=*) server+=($line[at]) ;;
        esac
    done
    consoles=(${(f)"$(vspc $server names 2>/dev/null)"})
    compadd -a consoles
}

"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_command_is_in_the_manual_pages() {
        assert_eq!(vspc_man::faults(&Options::command(), &FACTS).unwrap(), "");
    }
}

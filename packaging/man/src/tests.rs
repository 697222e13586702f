use super::*;

use clap::builder::PossibleValue;
use clap::{ArgAction, Command};

fn program() -> Command {
    let mode = Arg::new("mode").long("mode").short('m').value_name("MODE").help("How it goes");
    let mode = mode.default_value("fast").help_heading("Others");
    let mode = mode.value_parser([PossibleValue::new("fast").help("At once"), PossibleValue::new("slow")]);
    let below =
        Command::new("stop").about("Ends it.").arg(Arg::new("when").value_name("WHEN").required(true));
    Command::new("prog")
        .about("Does things")
        .arg(Arg::new("dots").long("dots").action(ArgAction::SetTrue).help(".hidden's \\ `x-y`"))
        .arg(mode)
        .arg(Arg::new("secret").long("secret").hide(true))
        .subcommand(below)
        .subcommand(Command::new("unseen").hide(true))
        .after_help(AFTER)
}

const AFTER: &str = "Examples:
  prog --dots
      shows
      dots

Exit code: 0 after
  all; 1 else

A remark.";

fn facts() -> Facts<'static> {
    Facts {
        summary: "thing doer",
        sections: &[("Files", &[("/etc/prog", "Options.")])],
        see_also: &["other(7)"],
    }
}

#[test]
fn what_help_tells_is_in_the_page() {
    let pages = pages(program(), &facts());
    let page = pages[0].text();
    for part in [
        ".SH NAME\nprog \\- thing doer\n",
        ".SH \"SYNOPSIS\"\n\\fBprog\\fR [OPTIONS]",
        ".SH \"COMMANDS\"\n.TP\n\\fBprog\\-stop(1)\\fR\nEnds it.\n",
        ".TP\n\\fB\\-\\-dots\\fR\n\\&.hidden\\(aqs \\e \\fBx\\-y\\fR.\n",
        ".SS \"Others\"\n.TP\n\\fB\\-m\\fR, \\fB\\-\\-mode\\fR \\fIMODE\\fR\nHow it goes.",
        "How it goes. Default: \\fBfast\\fR.\n",
        ".IP\n\\fBfast\\fR: At once.\n.IP\n\\fBslow\\fR\n",
        ".SH \"EXAMPLES\"\n.TP\n\\fBprog \\-\\-dots\\fR\nShows dots.\n",
        ".SH \"EXIT CODE\"\n0 after all; 1 else.\n.PP\nA remark.\n",
        ".SH \"FILES\"\n.TP\n\\fB/etc/prog\\fR\nOptions.\n",
        ".SH \"SEE ALSO\"\n\\fBprog\\-stop\\fR(1),\n\\fBother\\fR(7)\n",
    ] {
        assert!(page.contains(part), "{part}\n is not in\n{page}");
    }
    assert!(!page.contains("secret") && !page.contains("unseen"), "{page}");
}

#[test]
fn a_command_has_a_page_that_leads_back() {
    let pages = pages(program(), &facts());
    let files: Vec<String> = pages.iter().map(Page::file).collect();
    assert_eq!(files, ["prog.1", "prog-stop.1"]);
    let page = pages[1].text();
    assert!(page.contains("\\fBprog stop\\fR <WHEN>"), "{page}");
    assert!(page.contains(".SH \"ARGUMENTS\"\n.TP\n\\fIWHEN\\fR\n"), "{page}");
    assert!(page.contains(".SH \"SEE ALSO\"\n\\fBprog\\fR(1)\n"), "{page}");
}

#[test]
fn options_and_commands_that_are_not_in_the_pages_are_faults() {
    let written = pages(program(), &facts());
    let more = Arg::new("more").long("more");
    let grown = program().arg(more.clone()).subcommand(Command::new("new"));
    let grown = grown.mut_subcommand("stop", |stop| stop.arg(more));
    assert_eq!(lint::forgotten(&program(), "prog", &written), "");
    assert_eq!(
        lint::forgotten(&grown, "prog", &written),
        "prog.1: no --more\nprog-new: no page\nprog-stop.1: no --more\n"
    );
}

#[test]
fn mandoc_finds_no_fault() {
    let mut pages = pages(program(), &facts());
    let mut page = Page::new("odd", 7, "page of odd lines");
    page.heading("Lines");
    page.verbatim(".dots\n'quotes' \\ \"more\"");
    page.paragraphs(".a\n\n`'b`\n\n\\fBc `never closed");
    page.item("-x \"y\"", "`");
    pages.extend([page, Page::written("vspc", 7, include_str!("../vspc.7"))]);
    assert_eq!(lint(&pages).unwrap(), "");
}

//! Manual pages (man(7)), made of what a program says of its own command line: what `--help` has is in the
//! page, and cannot be forgotten.
//!
//! **Owns** how pages look, and which sections they have. **Refuses to know** what the programs do.

#![forbid(unsafe_code)]

mod lint;
mod page;
mod roff;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, Command};

pub use lint::{faults, lint};
pub use page::Page;

/// What a program's page has that its command line does not tell.
#[derive(Clone, Copy, Default, Debug)]
pub struct Facts<'a> {
    /// What the program is, in half a sentence.
    pub summary: &'a str,
    /// Further sections: a heading, and terms with what they mean.
    pub sections: &'a [(&'a str, &'a [(&'a str, &'a str)])],
    /// Other pages, like `vspc(7)`.
    pub see_also: &'a [&'a str],
}

/// The page of a program first, then those of its commands.
#[must_use]
pub fn pages(mut command: Command, facts: &Facts<'_>) -> Vec<Page> {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let name = command.get_name().to_owned();
    add(&command, &name, Some(facts), &mut pages);
    pages
}

/// Prints the first of these pages, or writes all of them into a folder.
pub fn put(pages: &[Page], folder: Option<&Path>) -> io::Result<()> {
    match folder {
        Some(folder) => pages.iter().try_for_each(|page| fs::write(folder.join(page.file()), page.text())),
        None => io::stdout().write_all(pages.first().map(Page::text).unwrap_or_default().as_bytes()),
    }
}

/// Adds the page of a command that is called `name` there, and those of the commands below it.
fn add(command: &Command, name: &str, facts: Option<&Facts<'_>>, pages: &mut Vec<Page>) {
    let about = command.get_about().or_else(|| command.get_long_about()).map(ToString::to_string);
    let about = about.unwrap_or_default();
    let summary = facts.map_or(about.as_str(), |facts| facts.summary);
    let mut page = Page::new(name, 1, summary);
    page.heading("Synopsis");
    usage(command, &mut page);
    page.heading("Description");
    let long = command.get_long_about().map_or(about.clone(), ToString::to_string);
    page.paragraphs(&sentence(&long));

    let commands: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if !commands.is_empty() {
        page.heading("Commands");
        for below in &commands {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            page.item(&format!("{name}-{}(1)", below.get_name()), &sentence(&about));
        }
    }
    options(command, &mut page);
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        after_help(&text.to_string(), &mut page);
    }
    for (heading, items) in facts.map(|facts| facts.sections).unwrap_or_default() {
        page.heading(heading);
        for (term, text) in *items {
            page.item(term, text);
        }
    }
    let others = commands.iter().map(|below| format!("{name}-{}(1)", below.get_name()));
    let others = match (facts, name.rsplit_once('-')) {
        (Some(facts), _) => others.chain(facts.see_also.iter().map(ToString::to_string)).collect(),
        (None, Some((above, _))) => {
            let program = pages[0].reference();
            let above = Some(format!("{above}(1)")).filter(|above| *above != program);
            [program].into_iter().chain(above).chain(others).collect()
        }
        (None, None) => others.collect::<Vec<_>>(),
    };
    page.see_also(&others);
    pages.push(page);
    for below in commands {
        add(below, &format!("{name}-{}", below.get_name()), None, pages);
    }
}

/// How the command is called: a line for each way.
fn usage(command: &Command, page: &mut Page) {
    let usage = command.clone().render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines().map(str::trim).filter(|line| !line.is_empty()) {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        match line.strip_prefix(name) {
            Some(rest) => page.call(name, rest),
            None => page.call(line, ""),
        }
    }
}

/// Arguments and options, under the headings that help has.
fn options(command: &Command, page: &mut Page) {
    let shown: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let (places, named): (Vec<&Arg>, Vec<&Arg>) = shown.into_iter().partition(|arg| arg.is_positional());
    if !places.is_empty() {
        page.heading("Arguments");
        places.iter().for_each(|arg| option(arg, page));
    }
    if named.is_empty() {
        return;
    }
    page.heading("Options");
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in &named {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    // What has no heading comes first: nothing could part it from the heading before it.
    headings.sort_by_key(Option::is_some);
    for heading in headings {
        if let Some(heading) = heading {
            page.subheading(heading);
        }
        named.iter().filter(|arg| arg.get_help_heading() == heading).for_each(|arg| option(arg, page));
    }
}

fn option(arg: &Arg, page: &mut Page) {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = sentence(&help);
    let takes_value = arg.get_num_args().is_some_and(|range| range.takes_values());
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && !default.is_empty() && !arg.is_hide_default_value_set() {
        text += &format!(" Default: `{}`.", default.join(","));
    }
    if takes_value && !arg.is_hide_possible_values_set() {
        let values = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
        for value in values {
            text += &format!("\n\n`{}`", value.get_name());
            if let Some(help) = value.get_help() {
                text += &format!(": {}", sentence(&help.to_string()));
            }
        }
    }
    page.option(arg, takes_value, text.trim());
}

/// What help ends with, as sections. A line that begins with a word or two and a colon begins a section;
/// what stands further in below it is a term, and further in still what that means.
fn after_help(text: &str, page: &mut Page) {
    let mut item: Option<(String, String)> = None;
    let mut paragraph = String::new();
    let mut is_headed = false;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let words = line.trim();
        let heading = words.split_once(':').filter(|(heading, rest)| {
            depth == 0 && heading.split(' ').count() <= 2 && (rest.is_empty() || rest.starts_with(' '))
        });
        if words.is_empty() || heading.is_some() {
            flush(&mut item, &mut paragraph, page);
        }
        if words.is_empty() {
            continue;
        }
        if let Some((heading, rest)) = heading {
            page.heading(heading);
            is_headed = true;
            paragraph = rest.trim().to_owned();
        } else if !paragraph.is_empty() {
            paragraph += " ";
            paragraph += words;
        } else if depth == 0 {
            if !is_headed {
                page.heading("Notes");
                is_headed = true;
            }
            paragraph = words.to_owned();
        } else if let Some((_, text)) = item.as_mut().filter(|_| depth > TERM_DEPTH) {
            *text += if text.is_empty() { "" } else { " " };
            *text += words;
        } else {
            flush(&mut item, &mut paragraph, page);
            item = Some((words.to_owned(), String::new()));
        }
    }
    flush(&mut item, &mut paragraph, page);
}

/// Puts what has been read of a term or a paragraph into the page.
fn flush(item: &mut Option<(String, String)>, paragraph: &mut String, page: &mut Page) {
    if let Some((term, text)) = item.take() {
        page.item(&term, &sentence(&text));
    }
    if !paragraph.is_empty() {
        page.paragraphs(&sentence(paragraph));
        paragraph.clear();
    }
}

/// The same with a capital and a full stop, which help spares.
#[must_use]
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    let end = if text.ends_with(['.', ':', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), rest.as_str())
}

/// How far in a term stands in what help ends with, at most.
const TERM_DEPTH: usize = 2;

#[cfg(test)]
mod tests;

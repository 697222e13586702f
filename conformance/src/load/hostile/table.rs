//! The table at the end of a run: one row per drill and server.

use std::fmt;

use super::outcome::COLUMNS;

/// Rows as they come.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A drill that was played.
    pub(super) fn row(&mut self, drill: &str, server: &str, figures: Vec<String>, is_good: bool) {
        let mut row = vec![drill.to_owned(), server.to_owned()];
        row.extend(figures);
        row.push(if is_good { "ok" } else { "FAILED" }.to_owned());
        self.rows.push(row);
    }

    /// A drill that could not be.
    pub(super) fn failed(&mut self, drill: &str, server: &str) {
        let mut row = vec![drill.to_owned(), server.to_owned()];
        row.resize(2 + COLUMNS.len(), "-".to_owned());
        row.push("not played".to_owned());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = vec!["drill", "server"];
        head.extend(COLUMNS);
        head.push("");
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].len());
            cells.chain([head[at].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (at, (cell, width)) in cells.zip(&widths).enumerate() {
                // Words to the left, figures to the right.
                let is_word = at < 2 || at + 1 == widths.len();
                let cell = if is_word { format!("{cell:width$}") } else { format!("{cell:>width$}") };
                text.push_str(&cell);
                text.push_str("  ");
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&mut head.iter().copied())?;
        self.rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::default();
        table.row("legs", "mio", vec!["1".into(); COLUMNS.len()], true);
        table.failed("consoles-ports", "smol");
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let server = lines[0].find("server").unwrap();
        assert!(lines[1][server..].starts_with("mio ") && lines[2][server..].starts_with("smol "));
        assert!(lines[1].ends_with("  ok") && lines[2].ends_with("  not played"), "{text}");
        let end = lines[0].find("key p99").unwrap() + "key p99".len();
        assert_eq!(&lines[1][end - 1..end], "1");
    }
}

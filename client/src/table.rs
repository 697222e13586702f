//! Columns of text, for people.
//!
//! Owns their widths. Cells are to be printable already.

/// Rows under a heading.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let heading = heading.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().cloned()).collect();
    columns(&rows)
}

/// Rows, each column as wide as its widest cell.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let line: String = cells.map(|(cell, &width)| format!("{cell:width$}  ")).collect();
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["web01".to_owned(), "1".to_owned()], vec!["\u{e4}".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), ["NAME   N", "web01  1", "\u{e4}"]);
    }
}

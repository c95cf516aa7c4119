//! Rows of text below each other, as tables are printed.

/// The rows as lines: each column is as wide as its widest cell, but for the last one.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut text = String::new();
    for row in rows {
        let (last, padded) = row.split_last().expect("a table has columns");
        for (cell, width) in padded.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}   "));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

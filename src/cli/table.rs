//! Tables for people. What stands in them came from users, devices and files, and is made printable.

use std::io::{self, Write};

use crate::session::plain;

/// Columns as wide as their widest cell, but the last.
pub fn table<const N: usize>(rows: &[[String; N]], to: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

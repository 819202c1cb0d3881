//! Tables for people. What stands in them came from users, devices and files, and is made printable.

use std::io::{self, IsTerminal, Write};

use crate::session::plain;

/// Between two columns.
const GAP: usize = 2;
/// A column is not made narrower, except if all are so narrow.
const NARROWEST: usize = 8;

/// Columns of the terminal; of another output 80, as mail and paper have it.
pub fn width() -> usize {
    const USUAL: usize = 80;
    const LEAST: usize = 40;
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(USUAL).max(LEAST)
}

/// Columns as wide as their widest cell, but the last. For values that are copied from a terminal: nothing is broken.
pub fn table<const N: usize>(rows: &[[String; N]], to: &mut impl Write) -> io::Result<()> {
    fitted(rows, usize::MAX, to)
}

/// Columns within a width: the widest ones are broken into several lines, and the first one last, as it names the row.
pub fn fitted<const N: usize>(rows: &[[String; N]], width: usize, to: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut widths: [usize; N] = std::array::from_fn(widest);
    while widths.iter().sum::<usize>() + GAP * (N - 1) > width {
        let shrinks = |column: &usize| widths[*column] > NARROWEST;
        let Some(column) =
            (1..N).filter(shrinks).max_by_key(|column| widths[*column]).or((0..1).find(shrinks))
        else {
            break;
        };
        widths[column] -= 1;
    }
    for row in &rows {
        let cells: [Vec<String>; N] = std::array::from_fn(|column| wrapped(&row[column], widths[column]));
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                line.push_str(&format!("{:<width$}  ", cell.get(number).map_or("", String::as_str)));
            }
            writeln!(to, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// A text in lines of at most `width`, broken at spaces where it has any. At least one line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && used + 1 + length <= width {
            lines.last_mut().expect("one is there").push(' ');
            used += 1;
        } else if index > 0 {
            lines.push(String::new());
            used = 0;
        }
        for char in word.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().expect("one is there").push(char);
            used += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rows: &[[&str; 3]], width: usize) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.map(str::to_owned)).collect();
        let mut out = Vec::new();
        fitted(&rows, width, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_stays_within_its_width_and_loses_nothing() {
        let rows = [["PORT", "STATE", "DESCRIPTION"], ["core", "open", "the switch in rack 4, upper half"]];
        assert_eq!(
            said(&rows, 80),
            "PORT  STATE  DESCRIPTION\ncore  open   the switch in rack 4, upper half\n"
        );
        assert_eq!(
            said(&rows, 31),
            "PORT  STATE  DESCRIPTION\ncore  open   the switch in rack\n             4, upper half\n"
        );
        let long = ["x".repeat(32), "y".repeat(60), "z".repeat(80)];
        let rows = [long.each_ref().map(String::as_str)];
        for width in [40, 80, 132] {
            let said = said(&rows, width);
            assert!(said.lines().all(|line| line.chars().count() <= width), "{width}: {said}");
            for (letter, count) in [('x', 32), ('y', 60), ('z', 80)] {
                assert_eq!(said.matches(letter).count(), count, "{width}");
            }
        }
    }

    #[test]
    fn a_text_is_broken_at_spaces_and_a_long_word_anywhere() {
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a /dev/serial", 6), ["a", "/dev/s", "erial"]);
        assert_eq!(wrapped("one", 3), ["one"]);
    }
}

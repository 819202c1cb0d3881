//! Text tables. Cells may come from users, devices and files, and are made printable.

use std::io::{self, IsTerminal, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::session::plain;

/// Between two columns.
const COLUMN_GAP: usize = 2;
/// A column is not shrunk below this.
const MIN_COLUMN_WIDTH: usize = 8;

/// The width of the terminal or COLUMNS; 80 for other output.
pub fn width() -> usize {
    const DEFAULT_WIDTH: usize = 80;
    columns().unwrap_or(DEFAULT_WIDTH)
}

/// The width of the terminal or COLUMNS; unlimited for other output, since programs read one row per line.
pub fn width_of_rows() -> usize {
    columns().unwrap_or(usize::MAX)
}

fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    let asked = std::env::var("COLUMNS").ok();
    available(size.map(|size| size.ws_col), asked.as_deref())
}

/// The smaller of the terminal's width and COLUMNS, which may be from before the terminal was resized.
fn available(terminal: Option<u16>, asked: Option<&str>) -> Option<usize> {
    const MIN_WIDTH: usize = 40;
    let terminal = terminal.map(usize::from).filter(|&columns| columns > 0);
    let asked = asked.and_then(|columns| columns.parse().ok()).filter(|&columns: &usize| columns > 0);
    let columns = match (terminal, asked) {
        (Some(terminal), Some(asked)) => Some(terminal.min(asked)),
        (terminal, asked) => terminal.or(asked),
    };
    columns.map(|columns| columns.max(MIN_WIDTH))
}

/// A table without wrapping, for values that users copy from a terminal.
pub fn table<const N: usize>(rows: &[[String; N]], to: &mut impl Write) -> io::Result<()> {
    fitted(rows, usize::MAX, to)
}

/// A table within a width: the widest columns are wrapped, the first one last, because it names the row. All rows have as many cells.
pub fn fitted(rows: &[impl AsRef<[String]>], width: usize, to: &mut impl Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.as_ref().iter().map(|cell| plain(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..columns).map(widest).collect();
    while widths.iter().sum::<usize>() + COLUMN_GAP * columns.saturating_sub(1) > width {
        let shrinks = |column: &usize| widths[*column] > MIN_COLUMN_WIDTH;
        let Some(column) =
            (1..columns).filter(shrinks).max_by_key(|column| widths[*column]).or((0..1).find(shrinks))
        else {
            break;
        };
        widths[column] -= 1;
    }
    for row in &rows {
        let cells: Vec<Vec<String>> =
            row.iter().zip(&widths).map(|(cell, width)| wrapped(cell, *width)).collect();
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let text = cell.get(number).map_or("", String::as_str);
                line.push_str(text);
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width()) + COLUMN_GAP));
            }
            writeln!(to, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Wraps text at `width`, at spaces where possible. Returns at least one line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.width();
        if index > 0 && used + 1 + length <= width {
            lines.last_mut().expect("not empty").push(' ');
            used += 1;
        } else if index > 0 {
            lines.push(String::new());
            used = 0;
        }
        for char in word.chars() {
            let length = char.width().unwrap_or(0);
            if used > 0 && used + length > width {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().expect("not empty").push(char);
            used += length;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[[&str; 3]], width: usize) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.map(str::to_owned)).collect();
        let mut out = Vec::new();
        fitted(&rows, width, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_fits_its_width_without_truncation() {
        let rows = [["PORT", "STATE", "DESCRIPTION"], ["core", "open", "the switch in rack 4, upper half"]];
        assert_eq!(
            printed(&rows, 80),
            "PORT  STATE  DESCRIPTION\ncore  open   the switch in rack 4, upper half\n"
        );
        assert_eq!(
            printed(&rows, 31),
            "PORT  STATE  DESCRIPTION\ncore  open   the switch in rack\n             4, upper half\n"
        );
        let long = ["x".repeat(32), "y".repeat(60), "z".repeat(80)];
        let rows = [long.each_ref().map(String::as_str)];
        for width in [40, 80, 132] {
            let printed = printed(&rows, width);
            assert!(printed.lines().all(|line| line.chars().count() <= width), "{width}: {printed}");
            for (letter, count) in [('x', 32), ('y', 60), ('z', 80)] {
                assert_eq!(printed.matches(letter).count(), count, "{width}");
            }
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let rows = [["PORT", "STATE", "DESCRIPTION"], ["core", "機架四上半部", "x"], ["edge", "open", "y"]];
        assert_eq!(
            printed(&rows, 80),
            "PORT  STATE         DESCRIPTION\ncore  機架四上半部  x\nedge  open          y\n"
        );
        assert_eq!(wrapped("機架四", 5), ["機架", "四"]);
    }

    #[test]
    fn the_width_is_the_smaller_of_terminal_and_columns() {
        assert_eq!(available(None, None), None);
        assert_eq!(available(None, Some("100")), Some(100));
        assert_eq!(available(Some(60), Some("100")), Some(60), "resized since");
        assert_eq!(available(Some(132), Some("100")), Some(100));
        for nonsense in ["", "0", "-1", "wide"] {
            assert_eq!(available(Some(132), Some(nonsense)), Some(132), "{nonsense:?}");
        }
        assert_eq!(available(Some(3), None), Some(40));
    }

    #[test]
    fn text_is_wrapped_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a /dev/serial", 6), ["a", "/dev/s", "erial"]);
        assert_eq!(wrapped("one", 3), ["one"]);
    }
}

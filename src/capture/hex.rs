//! Rows of the `hex` and `both` logs: 16 bytes as numbers, and for `both` as characters. Pure.

pub(super) const ROW_BYTES: usize = 16;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the row of at most [`ROW_BYTES`] bytes. With `looks`, the characters begin at the same column in every row.
pub(super) fn row(bytes: &[u8], looks: bool, out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        match index {
            0 => {}
            8 => out.extend_from_slice(b"  "),
            _ => out.push(b' '),
        }
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    if looks {
        let missing = ROW_BYTES - bytes.len();
        let width = missing * 3 + usize::from(bytes.len() <= 8);
        out.extend(std::iter::repeat_n(b' ', width));
        out.extend_from_slice(b"  |");
        out.extend(
            bytes.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { *byte } else { b'.' }),
        );
        out.push(b'|');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], looks: bool) -> String {
        let mut out = Vec::new();
        row(bytes, looks, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn looks_stand_at_the_same_place_in_every_row() {
        assert_eq!(shown(b"login:\r\n", false), "6c 6f 67 69 6e 3a 0d 0a");
        let whole = shown(b"0123456789abcdef", true);
        assert_eq!(whole, "30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|");
        for length in 1..ROW_BYTES {
            let part = shown(&b"0123456789abcdef"[..length], true);
            assert_eq!(part.find('|'), whole.find('|'), "{part}");
        }
        assert!(shown(b"\x1b[c|\xff", true).ends_with("|.[c|.|"));
    }
}

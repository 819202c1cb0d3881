//! Replacing CR, LF, BS and DEL on the way between a device and the user's terminal, in picocom's words.

use std::fmt;
use std::str::FromStr;

use super::PortError;

/// A mapping: its word, the byte that it replaces, and by what.
type Row = (&'static str, u8, &'static [u8]);

/// picocom(1) `--imap` and `--omap`, without the words that show bytes as hexadecimal: a log of type `hex` does that.
const ROWS: [Row; 8] = [
    ("crlf", b'\r', b"\n"),
    ("crcrlf", b'\r', b"\r\n"),
    ("igncr", b'\r', b""),
    ("lfcr", b'\n', b"\r"),
    ("lfcrlf", b'\n', b"\r\n"),
    ("ignlf", b'\n', b""),
    ("bsdel", 0x08, b"\x7f"),
    ("delbs", 0x7f, b"\x08"),
];

/// What tio(1) calls the same.
const TIO: [(&str, &str, &str); 9] = [
    ("ICRNL", "imap", "crlf"),
    ("ICRCRNL", "imap", "crcrlf"),
    ("IGNCR", "imap", "igncr"),
    ("INLCR", "imap", "lfcr"),
    ("INLCRNL", "imap", "lfcrlf"),
    ("OCRNL", "omap", "crlf"),
    ("OIGNCR", "omap", "igncr"),
    ("ONLCRNL", "omap", "lfcrlf"),
    ("ODELBS", "omap", "delbs"),
];

/// What is replaced: at most one word for each byte. Each byte is replaced by itself, whatever stands before it, and what
/// has replaced it is not replaced again, as picocom does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping(Vec<&'static Row>);

impl Mapping {
    /// Of these words, in any order; between commas there can be several, as in picocom's own lists.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, PortError> {
        let mut rows: Vec<&'static Row> = Vec::new();
        let words = words.into_iter().flat_map(|list| list.split(','));
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            let Some(row) = ROWS.iter().find(|(name, ..)| *name == word) else {
                let tio = TIO.iter().find(|(name, ..)| name.eq_ignore_ascii_case(word));
                return Err(match tio {
                    Some((name, key, word)) => PortError::TioMapping { name, key, word },
                    None => PortError::Mapping(word.to_owned()),
                });
            };
            match rows.iter().find(|(_, byte, _)| *byte == row.1) {
                Some((same, ..)) if *same == word => {}
                Some((other, ..)) => return Err(PortError::Mappings(other, row.0)),
                None => rows.push(row),
            }
        }
        rows.sort_by_key(|row| ROWS.iter().position(|other| other.0 == row.0));
        Ok(Self(rows))
    }

    /// Its words.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(word, ..)| *word)
    }

    /// Whether nothing is replaced.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes with everything replaced.
    pub fn apply(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.is_empty() || !bytes.iter().any(|byte| self.replacement(*byte).is_some()) {
            return bytes;
        }
        let mut mapped = Vec::with_capacity(bytes.len() + bytes.len() / 16);
        for byte in bytes {
            match self.replacement(byte) {
                Some(by) => mapped.extend_from_slice(by),
                None => mapped.push(byte),
            }
        }
        mapped
    }

    fn replacement(&self, byte: u8) -> Option<&'static [u8]> {
        self.0.iter().find(|(_, from, _)| *from == byte).map(|(_, _, by)| *by)
    }
}

impl FromStr for Mapping {
    type Err = PortError;

    /// picocom's own list. `none` is empty.
    fn from_str(list: &str) -> Result<Self, PortError> {
        Self::of(Some(list).filter(|list| list.trim() != "none"))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// picocom 3.1's man page: "crlf: map CR to LF; crcrlf: map CR to CR + LF; igncr: ignore CR; lfcr: map LF to CR;
    /// lfcrlf: map LF to CR + LF; ignlf: ignore LF; bsdel: map BS to DEL; delbs: map DEL to BS".
    #[test]
    fn each_word_means_what_it_does_in_picocom() {
        for (words, wanted) in [
            ("", "a\r\n\x08\x7f\r\r\nb"),
            ("crlf", "a\n\n\x08\x7f\n\n\nb"),
            ("crcrlf", "a\r\n\n\x08\x7f\r\n\r\n\nb"),
            ("igncr", "a\n\x08\x7f\nb"),
            ("lfcr", "a\r\r\x08\x7f\r\r\rb"),
            ("lfcrlf", "a\r\r\n\x08\x7f\r\r\r\nb"),
            ("ignlf", "a\r\x08\x7f\r\rb"),
            ("bsdel", "a\r\n\x7f\x7f\r\r\nb"),
            ("delbs", "a\r\n\x08\x08\r\r\nb"),
            ("bsdel,delbs", "a\r\n\x7f\x08\r\r\nb"),
            ("crlf,lfcr", "a\n\r\x08\x7f\n\n\rb"),
            ("igncr, lfcrlf", "a\r\n\x08\x7f\r\nb"),
        ] {
            let mapping: Mapping = words.parse().unwrap();
            let mapped = mapping.apply(b"a\r\n\x08\x7f\r\r\nb".to_vec());
            assert_eq!(String::from_utf8(mapped).unwrap(), wanted, "{words}");
        }
    }

    #[test]
    fn a_word_that_is_none_or_contradicts_another_is_refused() {
        for (words, wanted) in [
            ("nlcr", r#""nlcr" is not known"#),
            ("crlf,igncr", "crlf and igncr both replace the same character"),
            ("delbs,INLCRNL", "INLCRNL is tio's word: here it is lfcrlf in imap"),
            ("odelbs", "ODELBS is tio's word: here it is delbs in omap"),
        ] {
            let error = words.parse::<Mapping>().unwrap_err().to_string();
            assert_eq!(error, wanted);
        }
        let twice: Mapping = "lfcr,crlf,lfcr".parse().unwrap();
        assert_eq!(twice.to_string(), "crlf,lfcr");
        assert_eq!("none".parse(), Ok(Mapping::default()));
    }
}

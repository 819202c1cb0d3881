//! Mapping of CR, LF, BS and DEL between a device and the user's terminal, with picocom's names.

use std::fmt;
use std::str::FromStr;

use super::PortError;

/// A mapping: its name, the byte that it replaces, and the replacement.
type Row = (&'static str, u8, &'static [u8]);

/// picocom(1) `--imap` and `--omap`, without the mappings to hexadecimal: a log of type `hex` shows bytes.
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

/// The names in tio(1).
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

/// At most one mapping for each byte. Bytes are mapped one by one, and replacements are not mapped again,
/// as in picocom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping(Vec<&'static Row>);

impl Mapping {
    /// The mappings of these names, in any order; a name may be a list with commas, as in picocom.
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

    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(word, ..)| *word)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

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

    /// A list as in picocom. `none` is the empty list.
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

    /// picocom 3.1's man page: "crlf: map CR to LF; crcrlf: map CR to CR + LF; igncr: ignore CR; lfcr: map LF
    /// to CR; lfcrlf: map LF to CR + LF; ignlf: ignore LF; bsdel: map BS to DEL; delbs: map DEL to BS".
    #[test]
    fn each_mapping_does_what_it_does_in_picocom() {
        for (words, expected) in [
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
            assert_eq!(String::from_utf8(mapped).unwrap(), expected, "{words}");
        }
    }

    #[test]
    fn an_unknown_or_contradictory_mapping_is_rejected() {
        for (words, expected) in [
            ("nlcr", r#"unknown mapping "nlcr""#),
            ("crlf,igncr", "crlf and igncr both replace the same character"),
            ("delbs,INLCRNL", "INLCRNL is tio's name: use lfcrlf in imap"),
            ("odelbs", "ODELBS is tio's name: use delbs in omap"),
        ] {
            let error = words.parse::<Mapping>().unwrap_err().to_string();
            assert_eq!(error, expected);
        }
        let twice: Mapping = "lfcr,crlf,lfcr".parse().unwrap();
        assert_eq!(twice.to_string(), "crlf,lfcr");
        assert_eq!("none".parse(), Ok(Mapping::default()));
    }
}

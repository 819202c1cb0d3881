//! A text log read back: the lines that its records are of, and the bytes that they stand for.

/// The lines of the device, as bytes, without notes. A record that continues the one above is joined to it.
pub fn lines(log: &[u8]) -> Vec<Vec<u8>> {
    let log = std::str::from_utf8(log).expect("a text log is UTF-8");
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for record in log.lines() {
        let (_, rest) = record.split_once(' ').expect("a record begins with its time");
        match rest.split_at(2) {
            ("< ", line) => lines.push(unescaped(line)),
            ("<+", more) => lines.last_mut().expect("a line to go on with").extend(unescaped(more)),
            ("# ", _) => {}
            (mark, line) => panic!("{mark:?} {line:?}"),
        }
    }
    lines
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let length = match escape.as_bytes()[0] {
            b'\\' => {
                bytes.push(b'\\');
                1
            }
            b'r' => {
                bytes.push(b'\r');
                1
            }
            b'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
                3
            }
            b'u' => {
                let end = escape.find('}').unwrap();
                let character = u32::from_str_radix(&escape[2..end], 16).unwrap();
                bytes.extend_from_slice(char::from_u32(character).unwrap().to_string().as_bytes());
                end + 1
            }
            other => panic!("no such escape: {}", char::from(other)),
        };
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

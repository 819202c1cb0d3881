//! What console-dial makes of a hostile far end. Input: the kind of source, a seed, then what the far end sends.

use consoleserver::dial::codec::Codec;
use consoleserver::source::{FromDialer, RemoteLine, Request};

use super::pieces::Pieces;

/// Bytes of answers to one byte of a negotiation: the settings of a line, for three bytes of an agreement.
const MOST_ANSWERS: usize = 64;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((&[kind, seed], bytes)) = data.split_first_chunk::<2>() else { return };
    let source = ["tcp:h:1", "telnet:h:1", "rfc2217:h:1"][usize::from(kind) % 3];
    let line =
        RemoteLine { baud: 115_200, bytesize: 8, parity: 'N', stopbits: 1, rtscts: false, xonxoff: false };
    // A client has set the line, or none has.
    let report = (kind >= 128).then_some(u32::from(seed));
    let request = Request {
        connect: true,
        line: Some(line),
        dtr: Some(true),
        rts: (kind & 64 != 0).then_some(false),
        report,
        ..Request::default()
    };
    let codec = || Codec::of(&source.parse().unwrap(), &None, &request);
    let mut answered = Vec::new();
    let mut outcomes = Vec::new();
    for seed in [None, Some(seed)] {
        let mut codec = codec();
        codec.begin(&mut Vec::new());
        let (mut console, mut answer, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let pieces: Vec<&[u8]> = match seed {
            None => vec![bytes],
            Some(seed) => Pieces::of(bytes, seed).collect(),
        };
        for piece in pieces {
            codec.received(piece, &mut console, &mut answer, &mut events);
        }
        assert!(console.len() <= bytes.len(), "no byte comes out of nothing");
        assert!(answer.len() <= MOST_ANSWERS * bytes.len(), "{} bytes of answers", answer.len());
        assert!(events.len() <= bytes.len());
        for event in &events {
            assert!(
                matches!(event, FromDialer::Remark(text) if text.len() < 256)
                    || matches!(event, FromDialer::Modem(_))
                    || matches!(event, FromDialer::Line { report: number, .. } if Some(*number) == report)
            );
        }
        let another = Request { report: Some(256), ..request.clone() };
        codec.requested(&another, &mut answer, &mut events);
        let _ = codec.send_break(250, &mut answer);
        codec.end_break(&mut answer);
        codec.typed(bytes, &mut answered);
        // Within one read, negotiation is answered before the line is set: the order depends on the reads, the replies do not.
        answer.sort_unstable();
        outcomes.push((console, answer, events));
    }
    assert_eq!(outcomes[0], outcomes[1], "the same however it is split");
}

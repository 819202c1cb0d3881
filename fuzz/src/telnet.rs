//! Both ends of a telnet connection under a hostile peer. Input: a seed, then what the peer sends.

use consoleserver::telnet::{Event, MAX_SUBNEGOTIATION_BYTES, Role, Telnet};

use super::pieces::Pieces;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    for (role, com_port) in [(Role::Client, true), (Role::Client, false), (Role::Server, true)] {
        let start = |telnet: &mut Telnet| {
            let mut out = Vec::new();
            telnet.start(&mut out);
            out
        };
        let mut whole = Telnet::new(role, com_port);
        start(&mut whole);
        let mut replies = Vec::new();
        let events = whole.receive(bytes, &mut replies);
        assert!(replies.len() <= bytes.len(), "a reply is no longer than what it answers");
        let mut split = Telnet::new(role, com_port);
        start(&mut split);
        let mut split_replies = Vec::new();
        let mut merged: Vec<Event> = Vec::new();
        for piece in Pieces::of(bytes, seed) {
            for event in split.receive(piece, &mut split_replies) {
                match (merged.last_mut(), event) {
                    (Some(Event::Data(before)), Event::Data(more)) => before.extend(more),
                    (_, event) => merged.push(event),
                }
            }
        }
        assert_eq!((&merged, &split_replies), (&events, &replies), "the same however it is split");
        let mut carried = 0;
        for event in &events {
            match event {
                Event::Data(data) => carried += data.len(),
                Event::Command(command) => {
                    assert!(com_port, "{command:?} of an option that was refused");
                    let mut wire = Vec::new();
                    whole.command(command, &mut wire);
                    assert!(wire.len() <= 2 * MAX_SUBNEGOTIATION_BYTES + 6);
                    command.apply(Default::default()).map(|settings| command.reply(&settings).unwrap());
                }
                Event::Break | Event::ComPort(_) => {}
            }
        }
        assert!(carried <= bytes.len(), "no byte comes out of nothing");
    }
    // One end receives as data exactly what the other sends as data.
    let (mut sender, mut receiver) = (Telnet::new(Role::Server, false), Telnet::new(Role::Client, false));
    if seed % 2 == 0 {
        sender.receive(&[255, 253, 0], &mut Vec::new());
        receiver.receive(&[255, 251, 0], &mut Vec::new());
    }
    let mut wire = Vec::new();
    sender.data(bytes, &mut wire);
    let mut arrived = Vec::new();
    for piece in Pieces::of(&wire, seed) {
        for event in receiver.receive(piece, &mut Vec::new()) {
            let Event::Data(data) = event else { panic!("{event:?} was not sent") };
            arrived.extend(data);
        }
    }
    assert_eq!(arrived, bytes);
}

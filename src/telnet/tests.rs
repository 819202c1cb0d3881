use super::*;
use crate::port::{Baud, LineSettings, Parity};

fn received(telnet: &mut Telnet, bytes: &[u8]) -> (Vec<Event>, Vec<u8>) {
    let mut out = Vec::new();
    let events = telnet.receive(bytes, &mut out);
    (events, out)
}

/// Lets two ends talk until neither has anything to send.
fn negotiate(client: &mut Telnet, server: &mut Telnet) -> usize {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.start(&mut to_server);
    server.start(&mut to_client);
    let mut rounds = 0;
    while !to_server.is_empty() || !to_client.is_empty() {
        let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
        client.receive(&std::mem::take(&mut to_client), &mut from_client);
        server.receive(&std::mem::take(&mut to_server), &mut from_server);
        (to_server, to_client) = (from_client, from_server);
        rounds += 1;
        assert!(rounds < 10, "negotiation does not end");
    }
    rounds
}

#[test]
fn both_roles_agree_on_binary_and_com_port() {
    let (mut client, mut server) = (Telnet::new(Role::Client, true), Telnet::new(Role::Server, true));
    negotiate(&mut client, &mut server);
    assert!(client.is_binary() && server.is_binary());
    assert!(client.com_port() && server.com_port());
}

#[test]
fn a_com_port_that_the_server_has_takes_commands() {
    // RFC 2217: a client has sent WILL; a server with the option answers DO. SET-BAUDRATE is command 1.
    let mut client = Telnet::new(Role::Client, true);
    client.start(&mut Vec::new());
    assert_eq!(received(&mut client, &[255, 253, 44]), (vec![Event::ComPort(true)], vec![]));
    let mut out = Vec::new();
    client.command(&Command::Baud(115_200), &mut out);
    assert_eq!(out, [255, 250, 44, 1, 0, 1, 194, 0, 255, 240]);
}

#[test]
fn refused_com_port_is_reported_once() {
    // RFC 2217: a client sends WILL; a server without the option answers DONT.
    let mut client = Telnet::new(Role::Client, true);
    client.start(&mut Vec::new());
    assert_eq!(received(&mut client, &[255, 254, 44]), (vec![Event::ComPort(false)], vec![]));
    assert_eq!(received(&mut client, &[255, 254, 44]), (vec![], vec![]));
}

#[test]
fn confirmations_are_not_answered_and_unknown_options_are_refused() {
    // RFC 1143, section 7, and RFC 854: a request to enter a mode already in is not acknowledged.
    let mut server = Telnet::new(Role::Server, true);
    assert_eq!(received(&mut server, &[255, 253, 0]).1, [255, 251, 0], "DO BINARY: WILL BINARY");
    assert_eq!(received(&mut server, &[255, 253, 0]).1, [0_u8; 0], "it is on");
    assert_eq!(received(&mut server, &[255, 254, 0]).1, [255, 252, 0], "DONT BINARY: WONT BINARY");
    assert_eq!(received(&mut server, &[255, 254, 0]).1, [0_u8; 0], "it is off");
    assert_eq!(received(&mut server, &[255, 251, 31]).1, [255, 254, 31], "WILL NAWS: DONT");
    assert_eq!(received(&mut server, &[255, 253, 24]).1, [255, 252, 24], "DO TERMINAL-TYPE: WONT");
    assert_eq!(received(&mut server, &[255, 252, 31]).1, [0_u8; 0], "WONT of what is off");
    let mut without = Telnet::new(Role::Server, false);
    assert_eq!(received(&mut without, &[255, 251, 44]).1, [255, 254, 44], "WILL COM-PORT-OPTION: DONT");
}

#[test]
fn commands_are_those_of_rfc_2217() {
    // SET-BAUDRATE 115200 = 0x0001C200, as in RFC 2217 in network order; the reply has the code 101.
    let (client, mut server) = (Telnet::new(Role::Client, true), Telnet::new(Role::Server, true));
    server.receive(&[255, 251, 44], &mut Vec::new());
    let mut wire = Vec::new();
    client.command(&Command::Baud(115_200), &mut wire);
    assert_eq!(wire, [255, 250, 44, 1, 0, 1, 0xc2, 0, 255, 240]);
    assert_eq!(received(&mut server, &wire).0, [Event::Command(Command::Baud(115_200))]);
    let mut reply = Vec::new();
    server.command(&Command::Baud(115_200), &mut reply);
    assert_eq!(reply, [255, 250, 44, 101, 0, 1, 0xc2, 0, 255, 240]);
    // A value of 255 is doubled.
    let mut mask = Vec::new();
    client.command(&Command::ModemStateMask(255), &mut mask);
    assert_eq!(mask, [255, 250, 44, 11, 255, 255, 255, 240]);
    assert_eq!(received(&mut server, &mask).0, [Event::Command(Command::ModemStateMask(255))]);
    // pyserial polls the modem state without a value.
    assert_eq!(
        received(&mut server, &[255, 250, 44, 7, 255, 240]).0,
        [Event::Command(Command::ModemState(0))]
    );
}

#[test]
fn settings_survive_the_wire() {
    let wanted = LineSettings { parity: Parity::Odd, rtscts: true, ..LineSettings::default() };
    let mut line = LineSettings { baud: Baud::try_from(300).unwrap(), ..LineSettings::default() };
    for command in Command::of_settings(&wanted) {
        line = command.apply(line).unwrap();
        assert_eq!(command.reply(&line), Some(command));
    }
    assert_eq!(line, wanted);
    assert_eq!(Command::Baud(0).apply(line), None, "a query");
    assert_eq!(Command::StopSize(3).apply(line), None, "Linux has no 1.5 stop bits");
    assert_eq!(Command::Control(control::INBOUND_FLOW_QUERY).reply(&line), Some(Command::Control(16)));
    // RFC 2217, section 3: flow control by DCD (17), DTR (18, inbound) and DSR (19). What is in effect is replied.
    for (asked, in_effect) in [(17, 3), (18, 16), (19, 3)] {
        assert_eq!(Command::Control(asked).apply(line), None);
        assert_eq!(Command::Control(asked).reply(&line), Some(Command::Control(in_effect)));
    }
}

#[test]
fn data_is_transparent_in_binary_and_nvt() {
    let all: Vec<u8> = (0..=255).chain(*b"\r\n\r\0\r").collect();
    for binary in [false, true] {
        let (mut client, mut server) = (Telnet::new(Role::Client, false), Telnet::new(Role::Server, false));
        if binary {
            negotiate(&mut client, &mut server);
        }
        let mut wire = Vec::new();
        server.data(&all, &mut wire);
        for size in 1..5 {
            let mut arrived = Vec::new();
            for piece in wire.chunks(size) {
                for event in client.receive(piece, &mut Vec::new()) {
                    let Event::Data(data) = event else { panic!("{event:?}") };
                    arrived.extend(data);
                }
            }
            assert_eq!(arrived, all, "binary {binary}, {size} bytes at a time");
        }
    }
}

#[test]
fn breaks_keep_their_place_in_the_data() {
    let mut server = Telnet::new(Role::Server, true);
    let (events, _) = received(&mut server, b"a\xff\xf3b\xff\xffc");
    assert_eq!(events, [Event::Data(b"a".to_vec()), Event::Break, Event::Data(b"b\xffc".to_vec())]);
}

#[test]
fn a_subnegotiation_without_an_end_is_bounded() {
    let mut server = Telnet::new(Role::Server, true);
    server.receive(&[255, 251, 44, 255, 250, 44, 0], &mut Vec::new());
    for _ in 0..1000 {
        assert!(server.receive(&[b'x'; 1000], &mut Vec::new()).is_empty());
    }
    assert!(server.parser_bytes() <= 2 * MAX_SUBNEGOTIATION_BYTES);
    let (events, _) = received(&mut server, b"\xff\xf0data");
    assert_eq!(events, [Event::Data(b"data".to_vec())], "a signature that is too long is discarded");
}

//! Typed messages on a socket, of any type: what both protocols have in common.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use consoleserver::system::message::{MAX_MESSAGE_BYTES, MessageError, encode, receive, receive_async};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads messages until one is invalid. Each is encoded again and read back; a truncated one is never accepted.
pub fn messages<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], seed: u8) -> Vec<T> {
    let mut found = Vec::new();
    let (mut blocking, mut waiting) = (bytes, bytes);
    loop {
        let message = receive::<T>(&mut blocking);
        match (&message, at_once(receive_async::<T>(&mut waiting))) {
            (Ok(one), Ok(other)) => assert_eq!(one, &other, "read as by tokio"),
            (Err(_), Err(_)) => {}
            (one, other) => panic!("{one:?} or {other:?}"),
        }
        match message {
            Ok(Some(message)) => {
                said_again(&message, seed);
                found.push(message);
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    // And without its length, which is hard to guess.
    if let Ok(message) = serde_json::from_slice::<T>(bytes) {
        said_again(&message, seed);
    }
    found
}

fn said_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T, seed: u8) {
    let wire = match encode(message) {
        Ok(wire) => wire,
        // Control characters are longer as JSON writes them.
        Err(MessageError::TooLong(length)) => {
            assert!(length > MAX_MESSAGE_BYTES);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(receive::<T>(&mut wire.as_slice()).expect("it is right").as_ref(), Some(message));
    let cut = usize::from(seed) % wire.len();
    match receive::<T>(&mut &wire[..cut]) {
        Ok(None) => assert_eq!(cut, 0, "half a message is no end"),
        Ok(Some(message)) => panic!("half a message is {message:?}"),
        Err(error) => assert!(matches!(error, MessageError::Io(_)), "{error}"),
    }
}

/// The result of what need not wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("all of it is there"),
    }
}

//! The login protocol: what `console-auth` reads of the network processes, what these read of it, and the client's order of
//! client calls against a helper that replies anything. Input: which, a seed or orders, what came.

use std::io;
use std::net::Ipv6Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::OnceLock;

use consoleserver::auth::client::{Login, Step};
use consoleserver::auth::protocol::{Identity, Reply, Request, Run, Secret, Target};
use consoleserver::config::RootLogin;
use russh::keys::PublicKey;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

use super::wire;

/// Bytes of a command line, and of a terminal's type.
const LINE_MAX: usize = 4096;
const TERM_MAX: usize = 40;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([which, seed], bytes)) = data.split_first_chunk::<2>() else { return };
    match which % 3 {
        0 => wire::messages::<Request>(bytes, *seed).iter().for_each(right),
        1 => drop(wire::messages::<Reply>(bytes, *seed)),
        _ => login(*seed, bytes),
    }
}

/// Checks what root relies on in each request, from any sender.
fn right(request: &Request) {
    match request {
        Request::Begin { target: Target::Port(port), .. } | Request::Run { run: Run::Console(port), .. } => {
            assert_eq!(port.as_str().parse().as_ref(), Ok(port));
            assert!(!port.as_str().contains('/') && !port.as_str().starts_with('.'));
        }
        Request::Run { run: Run::Line(line), .. } => {
            assert!(line.as_str().len() <= LINE_MAX && !line.as_str().contains('\0'));
        }
        _ => {}
    }
    if let Request::Run { terminal: Some(terminal), .. } = request {
        let term = terminal.term.as_str();
        assert!(
            (1..=TERM_MAX).contains(&term.len())
                && !term.contains(['/', '\0', '='])
                && !term.starts_with('.')
        );
    }
}

struct Helper {
    runtime: Runtime,
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

/// A socket without a name in the file system, for all runs.
fn helper() -> &'static Helper {
    static HELPER: OnceLock<Helper> = OnceLock::new();
    HELPER.get_or_init(|| {
        let name = format!("consoleserver-fuzz-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = UnixListener::bind_addr(&address).expect("it is free");
        listener.set_nonblocking(true).expect("a socket");
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::from_std(listener).expect("a socket")
        };
        Helper { runtime, listener, path: format!("\0{name}").into() }
    })
}

/// No user gets in without a grant of the helper, and no order of messages hangs.
fn login(orders: u8, said: &[u8]) {
    let granted: Vec<Identity> = wire::messages::<Reply>(said, 0)
        .into_iter()
        .filter_map(|reply| match reply {
            Reply::Granted(identity) => Some(identity),
            _ => None,
        })
        .collect();
    let Helper { runtime, listener, path } = helper();
    runtime.block_on(async {
        let serve = async {
            let mut streams = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.write_all(said).await?;
                stream.shutdown().await?;
                // Kept open: closing it with unread data would reset the connection.
                streams.push(stream);
            }
            #[allow(unreachable_code)]
            io::Result::Ok(())
        };
        tokio::select! {
            served = serve => served.expect("sockets work"),
            let_in = visit(path, orders) => {
                for identity in let_in {
                    assert!(granted.contains(&identity), "{identity:?}");
                }
            }
        }
    });
}

/// A client that sends a sequence of requests. Returns the users as which it was admitted.
async fn visit(path: &std::path::Path, orders: u8) -> Vec<Identity> {
    let key = PublicKey::from_openssh(KEY).expect("a key");
    let mut let_in = Vec::new();
    let place = Target::Port("a".parse().expect("a name"));
    let Ok(mut login) = Login::begin(path, "u", Ipv6Addr::LOCALHOST.into(), place, RootLogin::Key).await
    else {
        return let_in;
    };
    for shift in [0, 2, 4, 6] {
        let granted = match orders >> shift & 3 {
            0 => login.offer(&key).await.map(|_| None),
            1 => login.key(&key, None).await,
            2 => login.password(Secret("x".into())).await,
            _ => match login.converse().await {
                Ok(Step::Prompts { prompts, .. }) => {
                    let answers = prompts.iter().map(|_| Secret("x".into())).collect();
                    login.answer(answers).await.map(|step| match step {
                        Step::Granted(identity) => Some(identity),
                        Step::Prompts { .. } | Step::Denied => None,
                    })
                }
                Ok(Step::Granted(identity)) => Ok(Some(identity)),
                Ok(Step::Denied) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match granted {
            Ok(identity) => let_in.extend(identity),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Some(granted) = login.granted() {
        assert!(granted.run(Run::Admin, None).await.is_err(), "no descriptors came");
    }
    let_in
}

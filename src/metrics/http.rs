//! HTTP/1.1 for one purpose: `GET /metrics`. One request a connection; the header is parsed by httparse. Everything is bounded.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::collect::CollectError;
use super::text::Format;

/// Bytes of a request header. Prometheus sends about 300; proxies add some.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Lines of a request header.
const MAX_HEADER_LINES: usize = 64;
/// Time to receive the request. A client sends it at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to send the response. Prometheus waits 10 s for all of it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that has ended early.
#[derive(Debug, Error)]
pub enum HttpError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no request within {} s", REQUEST_TIMEOUT.as_secs())]
    NoRequest,
    #[error("the response was not read within {} s", RESPONSE_TIMEOUT.as_secs())]
    NotRead,
}

/// A request that can be answered.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// The figures in this format; for HEAD only their header.
    Metrics { format: Format, has_body: bool },
    /// The page for people.
    Index,
    /// An error: status line and text.
    Error(&'static str, &'static str),
}

pub async fn serve<S, F>(mut stream: S, figures: F) -> Result<(), HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: AsyncFnOnce(Format) -> Result<String, CollectError>,
{
    let request = tokio::time::timeout(REQUEST_TIMEOUT, receive(&mut stream))
        .await
        .map_err(|_| HttpError::NoRequest)??;
    let Some(request) = request else { return Ok(()) };
    let response = respond(request, figures).await;
    let send = async {
        stream.write_all(&response).await?;
        stream.shutdown().await
    };
    Ok(tokio::time::timeout(RESPONSE_TIMEOUT, send).await.map_err(|_| HttpError::NotRead)??)
}

/// Reads a request up to the end of its header; `None` if the client has closed the connection.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut header = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut header).await? == 0 {
            return Ok(None);
        }
        if let Some(request) = parse(&header) {
            return Ok(Some(request));
        }
        if header.len() > MAX_HEADER_BYTES {
            let text = "the header is longer than 16 KiB\n";
            return Ok(Some(Request::Error("431 Request Header Fields Too Large", text)));
        }
    }
}

/// The request of a header; `None` if it is incomplete.
fn parse(header: &[u8]) -> Option<Request> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADER_LINES];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(header) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => {
            let text = "the header has more than 64 lines\n";
            return Some(Request::Error("431 Request Header Fields Too Large", text));
        }
        Err(_) => return Some(Request::Error("400 Bad Request", "not an HTTP/1 request\n")),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let accept = request.headers.iter().find(|line| line.name.eq_ignore_ascii_case("accept"));
    let accept = accept.map(|line| String::from_utf8_lossy(line.value)).unwrap_or_default();
    let format = Format::accepted(&accept);
    Some(match (request.method.unwrap_or_default(), path) {
        ("GET", "/metrics") => Request::Metrics { format, has_body: true },
        ("HEAD", "/metrics") => Request::Metrics { format, has_body: false },
        ("GET" | "HEAD", "/") => Request::Index,
        ("GET" | "HEAD", _) => Request::Error("404 Not Found", "not found: the figures are at /metrics\n"),
        _ => Request::Error("405 Method Not Allowed", "method not allowed: expected GET\n"),
    })
}

async fn respond<F>(request: Request, figures: F) -> Vec<u8>
where
    F: AsyncFnOnce(Format) -> Result<String, CollectError>,
{
    match request {
        Request::Metrics { format, has_body } => match figures(format).await {
            Ok(text) => response("200 OK", format.content_type(), &text, has_body),
            Err(error) => {
                tracing::error!("{error}");
                response(
                    "503 Service Unavailable",
                    "text/plain; charset=utf-8",
                    &format!("{error}\n"),
                    has_body,
                )
            }
        },
        Request::Index => response(
            "200 OK",
            "text/plain; charset=utf-8",
            "consoleserver: the figures are at /metrics\n",
            true,
        ),
        Request::Error(status, text) => response(status, "text/plain; charset=utf-8", text, true),
    }
}

fn response(status: &str, content_type: &str, body: &str, has_body: bool) -> Vec<u8> {
    let length = body.len();
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if has_body {
        response.push_str(body);
    }
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(request).await.unwrap();
        let served = serve(far, async |format: Format| Ok::<_, CollectError>(format!("{format:?}\n")));
        let mut said = String::new();
        let (served, _) = tokio::join!(served, near.read_to_string(&mut said));
        served.unwrap();
        said
    }

    #[tokio::test]
    async fn metrics_are_in_the_format_that_the_client_accepts() {
        let said = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{said}");
        assert!(said.ends_with("Content-Length: 11\r\nConnection: close\r\n\r\nPrometheus\n"), "{said}");
        let said =
            ask(b"GET /metrics?x HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n")
                .await;
        assert!(said.ends_with("\r\n\r\nOpenMetrics\n"), "{said}");
        let said = ask(b"HEAD /metrics HTTP/1.0\r\n\r\n").await;
        assert!(said.ends_with("Content-Length: 11\r\nConnection: close\r\n\r\n"), "{said}");
    }

    #[tokio::test]
    async fn what_is_no_request_for_metrics_is_an_error() {
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADER_LINES + 1));
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "b".repeat(MAX_HEADER_BYTES));
        for (request, status) in [
            (b"GET /x HTTP/1.1\r\n\r\n".as_slice(), "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
            (many.as_bytes(), "431"),
            (long.as_bytes(), "431"),
        ] {
            let said = ask(request).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        }
    }
}

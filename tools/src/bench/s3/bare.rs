//! What HTTP alone costs: hyper on our io, answering bytes from memory or reading a body, and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::{Class, spawn};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};

/// Starts one on a free port of the loopback. It answers GET with so many bytes, reads the body of everything else and
/// goes on until the core ends. On a core.
///
/// # Errors
/// If there is no port left.
pub fn serve(bytes: usize) -> io::Result<SocketAddr> {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Reuse::Exclusive)?;
    let at = listener.local_addr()?;
    let payload = Bytes::from(vec![0xa5; bytes]);
    let accept = async move {
        // Ends with the listener; clients then report broken connections.
        while let Ok((stream, _)) = listener.accept().await {
            spawn(Class::Foreground, connection(stream, payload.clone())).detach();
        }
    };
    spawn(Class::Foreground, accept).detach();
    Ok(at)
}

async fn connection(stream: Stream, payload: Bytes) {
    let answer = service_fn(move |request: Request<Incoming>| answer(request, payload.clone()));
    // A client that leaves ends it.
    let _ = http1::Builder::new().auto_date_header(false).serve_connection(stream, answer).await;
}

async fn answer(request: Request<Incoming>, payload: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        return Ok(Response::new(Full::new(payload)));
    }
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Full::default()))
}

//! What answers S3 on each core. There is no gateway yet, so nothing listens.

use std::net::SocketAddr;

use axum::body::Body as Answer;
use hyper::{Request, Response};

use crate::cluster::Cluster;
use crate::http::{Body, Serve};

/// The service of this core, if there is one. Every core has its own.
pub fn service(_: &Cluster) -> Option<Nothing> {
    None
}

/// Never made.
pub enum Nothing {}

impl Serve for Nothing {
    type Body = Answer;

    async fn serve(&self, _: Request<Body>, _: SocketAddr) -> Response<Answer> {
        match *self {}
    }

    fn panicked(&self) -> Response<Answer> {
        match *self {}
    }
}

//! The `object_store` crate, by which Rust programs use S3, with the functions that it is tested with itself.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, asked over real sockets")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{StatusCode, Uri};
use hyper_util::rt::TokioIo;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut, S3CopyIfNotExists};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt as _, integration};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// `cairn demo` in a place of its own; it ends with this.
struct Demo {
    process: Child,
    _place: TempDir,
    endpoint: String,
    access: String,
    secret: String,
}

impl Demo {
    fn start() -> Self {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.arg("demo").arg("--dir").arg(place.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let said: Vec<String> = lines.take_while(|line| !line.starts_with("Ctrl-C")).collect();
        let word = |name: &str| {
            let value = said.iter().find_map(|line| line.trim().strip_prefix(name));
            value.unwrap_or_else(|| panic!("it doesn't say {name:?}: {said:?}")).trim().to_owned()
        };
        let (endpoint, access, secret) = (word("S3 endpoint"), word("access key"), word("secret key"));
        Self { process, _place: place, endpoint, access, secret }
    }

    fn make_bucket(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["bucket", "create", "objects", "--endpoint", &self.endpoint]);
        command.env("AWS_ACCESS_KEY_ID", &self.access).env("AWS_SECRET_ACCESS_KEY", &self.secret);
        let made = command.output().expect("the binary starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn store(&self) -> AmazonS3Builder {
        let if_absent = ("if-none-match".to_owned(), "*".to_owned(), StatusCode::PRECONDITION_FAILED);
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_http_connector(Plain)
            .with_region("us-east-1")
            .with_bucket_name("objects")
            .with_access_key_id(&self.access)
            .with_secret_access_key(&self.secret)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_copy_if_not_exists(S3CopyIfNotExists::HeaderWithStatus(if_absent.0, if_absent.1, if_absent.2))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// HTTP without encryption, a connection for each request: the crate's own client would bring all of TLS.
#[derive(Debug)]
struct Plain;

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        exchange(request).await.map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, error))
    }
}

async fn exchange(mut request: HttpRequest) -> Result<HttpResponse, Box<dyn Error + Send + Sync>> {
    let host = request.uri().authority().ok_or("no host")?.to_string();
    let stream = TokioIo::new(TcpStream::connect(&host).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    request.headers_mut().insert(HOST, HeaderValue::from_str(&host)?);
    *request.uri_mut() = Uri::try_from(request.uri().path_and_query().map_or("/", |path| path.as_str()))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
    Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
}

async fn test_all(store: &AmazonS3) {
    integration::put_get_delete_list(store).await;
    integration::list_with_offset_exclusivity(store).await;
    integration::get_opts(store).await;
    integration::list_uses_directories_correctly(store).await;
    integration::list_with_delimiter(store).await;
    integration::rename_and_copy(store).await;
    integration::stream_get(store).await;
    integration::multipart(store, store).await;
    integration::multipart_with_opts(store, store).await;
    integration::multipart_put_part_out_of_order(store, store).await;
    integration::multipart_race_condition(store, true).await;
    integration::multipart_out_of_order(store).await;
    integration::put_get_attributes(store).await;
    integration::list_paginated(store, store).await;
    integration::copy_if_not_exists(store).await;
    integration::put_opts(store, true).await;
}

#[test]
fn the_object_store_crate_finds_what_it_expects() {
    let demo = Demo::start();
    demo.make_bucket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        test_all(&demo.store().build().expect("all is said")).await;
        let ways = [
            demo.store().with_unsigned_payload(true),
            demo.store().with_checksum_algorithm(Checksum::SHA256),
            demo.store().with_checksum_algorithm(Checksum::CRC64NVME),
        ];
        for way in ways {
            integration::put_get_delete_list(&way.build().expect("all is said")).await;
        }
        let nobody = demo.store().with_secret_access_key("another").build().expect("all is said");
        let denied = nobody.head(&Path::from("x")).await;
        assert!(matches!(denied, Err(object_store::Error::PermissionDenied { .. })), "{denied:?}");
    });
}

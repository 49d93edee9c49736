//! What can be asked for: the routes, their handlers and the document that describes them.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use cairn_io::Shutdown;
use cairn_io::time;
use futures_util::future::{Either, select};
use futures_util::{pin_mut, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};
use utoipa::{OpenApi, ToSchema};

use super::report::NodeReport;
use super::{ANSWER_WITHIN, ApiError, CHANGED_WITHIN, ErrorBody, Question, Shared, keys, settings, token};
use crate::trace::tap::{TAPS_MAX, Tap, Tapped};

/// The paths there are, and what answers them.
fn routes() -> [(&'static str, MethodRouter<Shared>); 11] {
    [
        ("/health/live", get(live)),
        ("/health/ready", get(ready)),
        ("/status", get(status)),
        ("/metrics", get(metrics)),
        ("/logs/stream", get(logs)),
        ("/shutdown", post(shutdown)),
        ("/keys", get(keys::list).post(keys::create)),
        ("/keys/{access}", delete(keys::remove)),
        ("/settings", get(settings::list)),
        ("/settings/{name}", put(settings::put).delete(settings::remove)),
        ("/openapi.json", get(openapi)),
    ]
}

const PATHS: [&str; 11] = [
    "/health/live",
    "/health/ready",
    "/status",
    "/metrics",
    "/logs/stream",
    "/shutdown",
    "/keys",
    "/keys/{access}",
    "/settings",
    "/settings/{name}",
    "/openapi.json",
];

/// What a path is called in metrics.
pub fn label(path: &str) -> &'static str {
    if path.starts_with("/keys/") {
        return "/keys/{access}";
    }
    if path.starts_with("/settings/") {
        return "/settings/{name}";
    }
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

pub fn router(shared: Shared) -> Router {
    let with_routes = routes().into_iter().fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    with_routes.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shared)
}

/// The document. Its version is the program's.
#[derive(OpenApi)]
#[openapi(
    info(title = "Cairn management API", description = "What a node does, why, how well; and how to stop it."),
    paths(
        live,
        ready,
        status,
        metrics,
        logs,
        shutdown,
        keys::list,
        keys::create,
        keys::remove,
        settings::list,
        settings::put,
        settings::remove,
        openapi
    )
)]
struct Document;

/// Something went as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
struct Done {
    /// What.
    status: String,
}

fn done(status: &str) -> Json<Done> {
    Json(Done { status: status.to_owned() })
}

/// Whether the program runs: it does if it answers.
#[utoipa::path(get, path = "/health/live", responses((status = 200, body = Done)))]
async fn live() -> Json<Done> {
    done("live")
}

/// Whether something can be stored.
#[utoipa::path(get, path = "/health/ready", responses((status = 200, body = Done), (status = 503, body = ErrorBody)))]
async fn ready(State(shared): State<Shared>) -> Result<Json<Done>, ApiError> {
    let report = ask(&shared, Question::Report).await?;
    match report.readiness() {
        Ok(()) => Ok(done("ready")),
        Err(why) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why)),
    }
}

/// What the node says of itself: cores, disks, lanes, background workers.
#[utoipa::path(get, path = "/status", responses((status = 200, body = NodeReport), (status = 503, body = ErrorBody)))]
async fn status(State(shared): State<Shared>) -> Result<Json<NodeReport>, ApiError> {
    ask(&shared, Question::Report).await.map(Json)
}

/// The same in numbers, for Prometheus.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"), (status = 503, body = ErrorBody)
))]
async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let text = ask(&shared, Question::Metrics).await?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

/// The log as it is written: one JSON object a line. A reader that is too slow finds `{"lost": n}` for what it missed.
#[utoipa::path(get, path = "/logs/stream", responses(
    (status = 200, body = String, content_type = "application/x-ndjson"), (status = 503, body = ErrorBody)
))]
async fn logs(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let Some(tap) = Tap::open() else {
        let message = format!("{TAPS_MAX} others read the log already; close one of them");
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", message));
    };
    let lines = stream::unfold((tap, shared.shutdown), |(tap, shutdown)| async move {
        let line = next_line(&tap, &shutdown).await?;
        Some((Ok::<_, Infallible>(line), (tap, shutdown)))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// The next line of the log; none when the node stops.
async fn next_line(tap: &Tap, shutdown: &Shutdown) -> Option<Bytes> {
    let (tapped, stop) = (tap.next(), shutdown.requested());
    pin_mut!(tapped, stop);
    match select(tapped, stop).await {
        Either::Left((Tapped::Line(line), _)) => Some(format!("{line}\n").into()),
        Either::Left((Tapped::Lost(lost), _)) => Some(format!("{}\n", json!({ "lost": lost })).into()),
        Either::Right(_) => None,
    }
}

/// Stops the node in order, as SIGTERM does.
#[utoipa::path(post, path = "/shutdown",
    params(("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 202, body = Done), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody))
)]
async fn shutdown(State(shared): State<Shared>, headers: HeaderMap) -> Result<(StatusCode, Json<Done>), ApiError> {
    authorize(&shared, &headers)?;
    info!("the management API was asked to stop the node");
    shared.shutdown.request();
    Ok((StatusCode::ACCEPTED, done("draining")))
}

/// Whether whoever asks has the token.
pub(super) fn authorize(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(expected) = shared.token.get() else {
        let message = "the node is still starting, or could not write its token, as its log says; send it SIGTERM";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_token", message));
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !given.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|text| expected.is(text.trim())) {
        warn!("somebody without the token asked for what needs it");
        let message = format!(
            "say `authorization: Bearer TOKEN` with the token of the file {} on the node's first disk",
            token::FILE
        );
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
    }
    Ok(())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
async fn openapi() -> Response {
    match Document::openapi().to_json() {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()).into_response(),
    }
}

async fn no_such_path(uri: Uri) -> ApiError {
    let message = format!("there is no {}; /openapi.json describes what there is", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "no_such_path", message)
}

async fn no_such_method(uri: Uri) -> ApiError {
    let message = format!("{} takes another method; /openapi.json says which", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", message)
}

/// Asks the node, for a while.
pub(super) async fn ask<T: Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(async_channel::Sender<T>) -> Question,
) -> Result<T, ApiError> {
    let unavailable = |message| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
    let (sender, receiver) = async_channel::bounded(1);
    let question = question(sender);
    let is_change = question.is_change();
    if shared.questions.try_send(question).is_err() {
        return Err(unavailable("too many ask at once, or the node is stopping; ask again in a second"));
    }
    match time::timeout(if is_change { CHANGED_WITHIN } else { ANSWER_WITHIN }, receiver.recv()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) if is_change => {
            let why =
                "nobody could say in time what became of it; it may be done all the same: look before you ask again";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "unknown", why))
        }
        Ok(Err(_)) => Err(unavailable("the node is stopping")),
        Err(_) => Err(unavailable("the node's cores did not answer in time; it is overloaded, or a disk hangs")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    use cairn_io::sim::{NodeConfig, World, WorldConfig};
    use cairn_io::time::Duration;
    use futures_util::future::join;

    use super::*;
    use crate::config::KEYS;
    use crate::manage::SettingChange;

    /// What is made of a node that answers after so long, asked for its settings, or to change one.
    fn told(delay: Duration, is_change: bool) -> Result<(), (StatusCode, &'static str)> {
        let (mut world, told) = (World::new(0, WorldConfig::default()), Rc::new(RefCell::new(None)));
        let tell = told.clone();
        let node = world.add_node(NodeConfig::default(), move || {
            let tell = tell.clone();
            Box::new(move |_| {
                let tell = tell.clone();
                Box::pin(async move {
                    let (questions, asked) = async_channel::bounded(1);
                    let shared = Shared { questions, token: Arc::default(), shutdown: Shutdown::new() };
                    let change = is_change.then(|| SettingChange { key: &KEYS[0], value: None, expected: None });
                    let answering = async {
                        let Ok(Question::Settings(_, answer)) = asked.recv().await else { panic!("it was asked") };
                        time::sleep(delay).await;
                        let _ = answer.send(Ok(vec![])).await;
                    };
                    let asking = ask(&shared, |answer| Question::Settings(change, answer));
                    let (answer, ()) = join(asking, answering).await;
                    *tell.borrow_mut() = Some(answer.map(drop).map_err(|error| (error.status, error.code)));
                })
            })
        });
        world.run_until(Duration::from_hours(1), || told.borrow().is_some());
        assert!(world.panics(node).is_empty());
        told.take().expect("it ends")
    }

    #[test]
    fn a_change_is_waited_for_and_never_said_to_be_refused_when_nobody_knows() {
        let in_time = Duration::from_secs(9);
        assert_eq!(told(in_time, true), Ok(()), "a leader may be looked for so long");
        assert_eq!(told(in_time, false), Err((StatusCode::SERVICE_UNAVAILABLE, "unavailable")));
        assert_eq!(told(Duration::from_mins(1), true), Err((StatusCode::GATEWAY_TIMEOUT, "unknown")));
    }

    #[test]
    fn the_document_has_exactly_the_routes() {
        let document = serde_json::to_value(Document::openapi()).expect("JSON");
        let described = document["paths"].as_object().expect("it has paths");
        let mut described: Vec<&str> = described.keys().map(String::as_str).collect();
        let mut served: Vec<&str> = routes().into_iter().map(|(path, _)| path).collect();
        described.sort_unstable();
        served.sort_unstable();
        assert_eq!(described, served);
        let mut labels = PATHS.to_vec();
        labels.sort_unstable();
        assert_eq!(labels, served, "metrics call a route by its path");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(document["components"]["schemas"]["LaneReport"].is_object(), "types are described, too");
    }
}

//! The management API: HTTP for people and their tools, on core 0. What a node does, why, how well; and how to stop it.
//!
//! ```text
//!   http::Server ─► Management ─► axum's router ─► a handler ─► Question ─► core 0 ─► mesh ─► every core
//! ```
//!
//! Handlers know no core: they send a [`Question`] and wait for a plain value, so that axum's demand that a future can be
//! sent anywhere costs nothing. It never carries what users store, nor any name of it. What changes something asks
//! for the token ([`token`]), as do keys and settings.

mod keys;
pub mod metrics;
pub mod report;
mod routes;
mod settings;
pub mod token;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body as AnswerBody;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cairn_io::Shutdown;
use cairn_io::time::{self, Duration};
use hyper::Request;
use serde::{Deserialize, Serialize};
use tower_service::Service;
use tracing::debug;
use utoipa::ToSchema;

use crate::cluster::ClusterError;
use crate::http::{Answered, Body, Serve};
use report::NodeReport;
pub use settings::{ClusterValue, SettingChange, SettingReport, SettingWish};
use token::Token;

/// How long a handler waits for the node's cores.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long it waits for a change: longer than the cluster looks for a leader.
const CHANGED_WITHIN: Duration = Duration::from_secs(14);

/// What a handler wants to know; to be answered on core 0.
pub enum Question {
    /// What the node says of itself.
    Report(async_channel::Sender<NodeReport>),
    /// The same for Prometheus.
    Metrics(async_channel::Sender<String>),
    /// Something about access keys.
    Keys(KeysAsk, async_channel::Sender<Result<KeysAnswer, ClusterError>>),
    /// What the cluster's settings are, after this change if there is one.
    Settings(Option<SettingChange>, async_channel::Sender<Result<Vec<SettingReport>, ClusterError>>),
}

impl Question {
    /// Whether it is a wish for something that may be done though nobody waits for it any more.
    fn is_change(&self) -> bool {
        match self {
            Self::Keys(asked, _) => *asked != KeysAsk::List,
            Self::Settings(change, _) => change.is_some(),
            Self::Report(_) | Self::Metrics(_) => false,
        }
    }
}

/// What is to be done with access keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAsk {
    /// Name them.
    List,
    /// Make one for a user, who is made with these rights if there is none.
    Create {
        /// Whose it is to be.
        user: String,
        /// See there.
        rights: String,
    },
    /// Remove one.
    Delete {
        /// Its public half.
        access: String,
    },
}

/// What was done with access keys.
#[derive(Clone, Debug)]
pub enum KeysAnswer {
    /// All there are.
    List(Vec<KeyReport>),
    /// A new one.
    Created(NewKeyReport),
    /// Whether there was one to remove.
    Deleted(bool),
}

/// An access key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyReport {
    /// Its public half.
    pub access: String,
    /// Whose it is.
    pub user: String,
    /// Whether it is refused for now.
    pub disabled: bool,
}

/// A new access key: the only answer that has its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKeyReport {
    /// Its public half.
    pub access: String,
    /// Its secret half.
    pub secret: String,
    /// Whose it is.
    pub user: String,
}

impl std::fmt::Debug for NewKeyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKeyReport").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Who is to have a new access key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyWish {
    /// The user; made if there is none.
    pub user: String,
    /// What a user that is made may do: `admin` for everything, empty for what bucket policies allow.
    #[serde(default)]
    pub rights: String,
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    questions: async_channel::Sender<Question>,
    /// Empty until the disks are open: the token is written on one of them.
    token: Arc<OnceLock<Token>>,
    shutdown: Shutdown,
}

/// The service.
pub struct Management {
    router: Router,
    answered: Rc<RefCell<Answered>>,
}

impl Management {
    /// A service that sends its questions there, and requests `shutdown` when who has the token says so; nobody has it as
    /// long as there is none.
    pub fn new(questions: async_channel::Sender<Question>, token: Arc<OnceLock<Token>>, shutdown: Shutdown) -> Self {
        Self { router: routes::router(Shared { questions, token, shutdown }), answered: Rc::default() }
    }

    /// What it has answered, also while it serves.
    pub fn answered(&self) -> Rc<RefCell<Answered>> {
        self.answered.clone()
    }
}

impl Serve for Management {
    type Body = AnswerBody;

    async fn serve(&self, request: Request<Body>, from: SocketAddr) -> Response {
        let (began, route) = (time::now(), routes::label(request.uri().path()));
        let method = request.method().clone();
        let Ok(response) = self.router.clone().call(request).await;
        let (took, status) = (began.elapsed(), response.status().as_u16());
        self.answered.borrow_mut().count(route, status, took);
        debug!(%from, %method, route, status, micros = took.as_micros() as u64, "answered");
        response
    }

    fn panicked(&self) -> Response {
        self.answered.borrow_mut().count("panicked", 500, Duration::ZERO);
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this request broke; the log says where")
            .into_response()
    }
}

/// An answer that says what went wrong.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The node answers another question than it was asked: a defect.
    fn another_question() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the node answered another question")
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let (status, code) = match error {
            ClusterError::Refused(_) | ClusterError::ControlRefused(_) => (StatusCode::CONFLICT, "refused"),
            ClusterError::Busy(_) | ClusterError::Unreachable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ClusterError::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "no_room"),
            ClusterError::Unknown(_) => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
            ClusterError::Broken(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// Why a request wasn't done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// See there.
    pub error: ErrorDetail,
}

/// Why a request wasn't done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs; it never changes its meaning.
    pub code: String,
    /// For people; it says what to do.
    pub message: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code.to_owned(), message: self.message };
        (self.status, axum::Json(ErrorBody { error })).into_response()
    }
}

//! The cluster's settings over the management API: for whoever has its token.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use cairn_meta::control::command::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::routes::{ask, authorize};
use super::{ApiError, ErrorBody, Question, Shared};
use crate::cluster::ClusterError;
use crate::config::{Key, Value};

/// The longest value of a setting here: a map has all of them.
const VALUE_MAX: usize = 1024;

/// A setting that the cluster may have a value for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingReport {
    /// Its name, as in a node's file.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Its value where nobody says otherwise.
    pub default: Option<String>,
    /// What the cluster says; none: nothing.
    pub cluster: Option<ClusterValue>,
    /// What this node uses now.
    pub value: Option<String>,
    /// Where that comes from: `default`, `the cluster, at epoch N`, or what the node itself was told, which counts more.
    pub origin: Option<String>,
}

/// A value that the cluster has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterValue {
    /// As it was put there.
    pub value: String,
    /// When that was; for `expected`.
    pub epoch: u64,
}

/// What the cluster is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingWish {
    /// The value.
    pub value: String,
    /// The epoch of the cluster's value that this one is to replace, 0 if it had none: refused if it is another. Left out: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// A change of what the cluster says, checked.
#[derive(Clone, Debug)]
pub struct SettingChange {
    /// Of what; one that the cluster may have a value for.
    pub key: &'static Key,
    /// The value as its setting writes it; `None`: the cluster says nothing any more.
    pub value: Option<String>,
    /// See [`SettingWish`].
    pub expected: Option<u64>,
}

fn bad(why: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_request", why)
}

fn find(name: &str) -> Result<&'static Key, ApiError> {
    Key::of_cluster(name).map_err(|why| ApiError::new(StatusCode::NOT_FOUND, "no_such_setting", why))
}

/// As the setting writes it, so that nodes compare like with like.
fn check(key: &Key, value: &str) -> Result<String, ApiError> {
    if value.len() > VALUE_MAX {
        return Err(bad(format!("a value of {} has at most {VALUE_MAX} bytes here", key.name)));
    }
    let read = Value::read(key, value).map_err(|why| bad(format!("{} = {value} {why}", key.name)))?;
    Ok(read.to_string())
}

/// The epoch that a deletion expects.
fn expected(uri: &Uri) -> Result<Option<u64>, ApiError> {
    let Some(query) = uri.query() else { return Ok(None) };
    let epoch = query.strip_prefix("expected=").and_then(|epoch| epoch.parse().ok());
    epoch.map(Some).ok_or_else(|| bad(format!("?{query} is not understood; say ?expected=EPOCH, or nothing")))
}

fn failed(name: &str, error: ClusterError) -> ApiError {
    let ClusterError::ControlRefused(Refusal::Changed { found }) = error else { return error.into() };
    let now = if found == 0 { "it has none".to_owned() } else { format!("it was changed at epoch {found}") };
    let message = format!("the cluster's value of {name} is not the expected one, {now}: look at it again");
    ApiError::new(StatusCode::CONFLICT, "changed", message)
}

async fn change(shared: &Shared, change: SettingChange) -> Result<Json<SettingReport>, ApiError> {
    let name = change.key.name;
    let changed = ask(shared, |answer| Question::Settings(Some(change), answer)).await?;
    let reports = changed.map_err(|error| failed(name, error))?;
    let report = reports.into_iter().find(|report| report.name == name);
    report.map(Json).ok_or_else(ApiError::another_question)
}

/// Every setting that the cluster may have a value for, and what this node uses.
#[utoipa::path(get, path = "/settings",
    params(("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 200, body = Vec<SettingReport>), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody))
)]
pub async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Result<Json<Vec<SettingReport>>, ApiError> {
    authorize(&shared, &headers)?;
    let listed = ask(&shared, |answer| Question::Settings(None, answer)).await?;
    Ok(Json(listed?))
}

/// Has the cluster say something. All nodes follow that weren't told otherwise themselves: this one before it answers.
#[utoipa::path(put, path = "/settings/{name}", request_body = SettingWish,
    params(("name" = String, Path, description = "The setting's name"),
        ("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 200, body = SettingReport), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody), (status = 504, body = ErrorBody))
)]
pub async fn put(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<SettingReport>, ApiError> {
    // Before anything that was sent is looked at.
    authorize(&shared, &headers)?;
    let key = find(&name)?;
    let wish: SettingWish =
        serde_json::from_str(&body).map_err(|error| bad(format!("{error}; say {{\"value\": \"VALUE\"}}")))?;
    let value = Some(check(key, &wish.value)?);
    change(&shared, SettingChange { key, value, expected: wish.expected }).await
}

/// Has the cluster say nothing of a setting any more.
#[utoipa::path(delete, path = "/settings/{name}",
    params(("name" = String, Path, description = "The setting's name"),
        ("expected" = Option<u64>, Query, description = "As for PUT"),
        ("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 200, body = SettingReport), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody), (status = 504, body = ErrorBody))
)]
pub async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<SettingReport>, ApiError> {
    authorize(&shared, &headers)?;
    let (key, expected) = (find(&name)?, expected(&uri)?);
    change(&shared, SettingChange { key, value: None, expected }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>) -> (u16, String) {
        let error = result.expect_err("it is refused");
        (error.status.as_u16(), error.message)
    }

    #[test]
    fn values_are_kept_as_their_settings_write_them() {
        let scrub = find("scrub.bytes_per_second").expect("it may be set");
        assert_eq!(check(scrub, "1024 KiB").expect("a rate"), "1MiB");
        let words = "scrub.bytes_per_second = 1MB is no size; write a whole number with a unit, such as 64MiB, or write unlimited";
        assert_eq!(refused(check(scrub, "1MB")), (400, words.to_owned()));
        let levels = find("log.level").expect("it may be set");
        assert_eq!(refused(check(levels, &"a=info,".repeat(VALUE_MAX))).0, 400);
    }

    #[test]
    fn names_that_the_cluster_has_no_say_in_are_refused() {
        let words = "there is no setting scrub.bytes; did you mean scrub.bytes_per_second?";
        assert_eq!(refused(find("scrub.bytes")), (404, words.to_owned()));
        let (status, why) = refused(find("memory"));
        assert!(status == 404 && why.starts_with("memory is each node's own"), "{why}");
        assert_eq!(refused(find("slots.nodes")).0, 404, "the cluster's own is not for people");
    }

    #[test]
    fn a_deletion_may_expect_an_epoch() {
        let read = |uri: &str| expected(&uri.parse().expect("a URI"));
        assert_eq!(read("/settings/log.level").expect("nothing"), None);
        assert_eq!(read("/settings/log.level?expected=12").expect("an epoch"), Some(12));
        assert_eq!(refused(read("/settings/log.level?expectd=12")).0, 400);
    }

    #[test]
    fn who_was_slower_is_told_what_is_there() {
        let failed = |found| failed("log.level", ClusterError::ControlRefused(Refusal::Changed { found }));
        assert_eq!(refused::<()>(Err(failed(12))).0, 409);
        assert!(failed(12).message.contains("at epoch 12") && failed(0).message.contains("it has none"));
    }
}

//! Access keys over the management API: for whoever has its token.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};

use super::routes::{ask, authorize};
use super::{ApiError, ErrorBody, KeyReport, KeyWish, KeysAnswer, KeysAsk, NewKeyReport, Question, Shared};

/// The longest name a user may have here.
const USER_MAX: usize = 128;

async fn ask_keys(shared: &Shared, headers: &HeaderMap, wish: KeysAsk) -> Result<KeysAnswer, ApiError> {
    authorize(shared, headers)?;
    Ok(ask(shared, |answer| Question::Keys(wish, answer)).await??)
}

/// The access keys there are, without their secrets.
#[utoipa::path(get, path = "/keys",
    params(("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 200, body = Vec<KeyReport>), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody))
)]
pub async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Result<Json<Vec<KeyReport>>, ApiError> {
    match ask_keys(&shared, &headers, KeysAsk::List).await? {
        KeysAnswer::List(keys) => Ok(Json(keys)),
        _ => Err(ApiError::another_question()),
    }
}

/// Makes an access key. The answer is the only one that has its secret.
#[utoipa::path(post, path = "/keys", request_body = KeyWish,
    params(("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 201, body = NewKeyReport), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 503, body = ErrorBody), (status = 504, body = ErrorBody))
)]
pub async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: String,
) -> Result<(StatusCode, Json<NewKeyReport>), ApiError> {
    // Before anything that was sent is looked at.
    authorize(&shared, &headers)?;
    let bad = |why: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", why);
    let wish: KeyWish =
        serde_json::from_str(&body).map_err(|error| bad(format!("{error}; say {{\"user\": \"NAME\"}}")))?;
    if wish.user.is_empty()
        || wish.user.len() > USER_MAX
        || !["", crate::cluster::ADMIN].contains(&wish.rights.as_str())
    {
        return Err(bad(format!("a user has 1 to {USER_MAX} bytes, and rights are \"admin\" or empty")));
    }
    match ask_keys(&shared, &headers, KeysAsk::Create { user: wish.user, rights: wish.rights }).await? {
        KeysAnswer::Created(key) => Ok((StatusCode::CREATED, Json(key))),
        _ => Err(ApiError::another_question()),
    }
}

/// Removes an access key.
#[utoipa::path(delete, path = "/keys/{access}",
    params(("access" = String, Path, description = "The key's public half"),
        ("authorization" = String, Header, description = "Bearer and the token of the file management-token")),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 504, body = ErrorBody))
)]
pub async fn remove(
    State(shared): State<Shared>,
    Path(access): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    match ask_keys(&shared, &headers, KeysAsk::Delete { access: access.clone() }).await? {
        KeysAnswer::Deleted(true) => Ok(StatusCode::NO_CONTENT),
        KeysAnswer::Deleted(false) => {
            Err(ApiError::new(StatusCode::NOT_FOUND, "no_such_key", format!("there is no access key {access}")))
        }
        _ => Err(ApiError::another_question()),
    }
}

//! DeleteObject and DeleteObjects.

use cairn_meta::slot::command::{Answer as Done, Body as What, Command, Erase, Which};
use cairn_meta::version::commit::{Condition, Mode};
use cairn_meta::version::{Bypass, Kind, State};
use futures_util::{StreamExt, stream};
use s3s::dto::{Delete, ObjectIdentifier};

use super::Checks;
use super::condition::{etags, write_mode};
use crate::cluster::{Commit, Copies};
use crate::s3::access::acl::Permission;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call, state_name, version_name, which};
use crate::s3::date::millis_of;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::KEY_MAX;
use crate::s3::xml::{Xml, read};

/// Keys of one request.
const KEYS_MAX: usize = 1000;
/// Keys that are deleted at a time.
const AT_ONCE: usize = 64;
/// The longest list of keys.
const LIST_MAX: usize = 4 << 20;

/// What became of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Deleted {
    /// The version that is gone, or the delete marker that was made.
    version: Option<String>,
    /// Whether that is a delete marker.
    is_marker: bool,
    /// Who has the version that was made, or knows that there was none to be deleted.
    state: Option<State>,
    /// How many nodes have the version that was made.
    copies: Option<Copies>,
}

/// Deletes an object, or a version.
pub async fn delete(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let mode = write_mode(&call.head)?;
    let deleted = delete_one(call, &bucket, call.key(), call.which()?, mode).await?;
    let answer = Answer::no_content().maybe("x-amz-version-id", deleted.version);
    let answer = answer.maybe("x-cairn-state", deleted.state.map(state_name));
    let answer = deleted.copies.into_iter().fold(answer, Answer::with_copies);
    Ok(if deleted.is_marker { answer.with("x-amz-delete-marker", "true") } else { answer })
}

async fn delete_one(call: &Call, bucket: &Bucket, key: &str, which: Option<Which>, mode: Mode) -> Result<Deleted> {
    let Some(which) = which else {
        let Commit { committed, state, copies } = match call.commit(bucket, key, mode, What::Deletion).await {
            // What isn't there is gone, whatever it should have been.
            Err(error) if error.code() == Code::NoSuchKey => return Ok(Deleted::default()),
            other => other?,
        };
        let is_marker = committed.kind == Kind::DeleteMarker;
        let version = committed.id.filter(|_| is_marker).map(|id| version_name(id, committed.is_null));
        // That there was nothing to delete is only what this node knows, if it is alone.
        let is_said = committed.id.is_some() || state == State::Provisional;
        let (state, copies) = (is_said.then_some(state), committed.id.map(|_| copies));
        return Ok(Deleted { version, is_marker, state, copies });
    };
    let conditions = match mode {
        Mode::Conditional(conditions) => conditions,
        Mode::Overwrite => vec![],
        _ => return Err(S3Error::argument("x-cairn-mode", "", "A version that is erased has no successor to be one.")),
    };
    let bypass = bypass(call, bucket, key)?;
    let erase = |place| Command::Erase(Erase { place, which, bypass, conditions: conditions.clone() });
    let named = |is_null, id| Some(version_name(id, is_null));
    match call.command(bucket, key, erase).await {
        Ok(Done::Erased(erased)) => {
            let (version, is_marker) = (named(erased.is_null, erased.id), erased.kind == Kind::DeleteMarker);
            Ok(Deleted { version, is_marker, ..Deleted::default() })
        }
        Ok(_) => Err(Code::InternalError.into()),
        // What is gone is gone.
        Err(error) if error.code() == Code::NoSuchVersion => Ok(Deleted {
            version: match which {
                Which::Id(id) => named(false, id),
                Which::Null | Which::Preferred => Some("null".to_owned()),
            },
            ..Deleted::default()
        }),
        // A delete marker is there and matches nothing.
        Err(error) if error.code() == Code::NoSuchKey => Err(Code::PreconditionFailed.into()),
        Err(error) => Err(error),
    }
}

/// Whether governance is to be bypassed, by somebody who may.
///
/// # Errors
/// `AccessDenied` if not.
pub fn bypass(call: &Call, bucket: &Bucket, key: &str) -> Result<Bypass> {
    let asked =
        call.head.only("x-amz-bypass-governance-retention")?.is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if !asked {
        return Ok(Bypass::Nothing);
    }
    call.allow_named(bucket, "s3:BypassGovernanceRetention", Some(key), None)?;
    Ok(Bypass::Governance)
}

/// Deletes many objects or versions.
pub async fn delete_many(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_expected(&bucket)?;
    let checks = Checks::read(&call.head)?;
    let document = body.all(LIST_MAX).await?;
    checks.verify_document(&document, body.trailers())?;
    let list: Delete = read(&document)?;
    if list.objects.is_empty() || list.objects.len() > KEYS_MAX {
        return Err(Code::MalformedXML.into());
    }
    let each = |object: ObjectIdentifier| {
        let bucket = &bucket;
        async move {
            let outcome = delete_named(call, bucket, &object).await;
            (object, outcome)
        }
    };
    let outcomes: Vec<_> = stream::iter(list.objects).map(each).buffered(AT_ONCE).collect().await;
    let is_quiet = list.quiet.unwrap_or(false);
    let mut xml = Xml::root("DeleteResult");
    for (object, outcome) in &outcomes {
        match outcome {
            Ok(_) if is_quiet => {}
            Ok(deleted) => write_deleted(&mut xml, object, deleted),
            Err(error) => write_error(&mut xml, object, error),
        }
    }
    Ok(Answer::xml(xml.end("DeleteResult")))
}

async fn delete_named(call: &Call, bucket: &Bucket, object: &ObjectIdentifier) -> Result<Deleted> {
    let key = object.key.as_str();
    if key.len() > KEY_MAX {
        return Err(Code::KeyTooLongError.into());
    }
    let named = object.version_id.as_deref().filter(|id| !id.is_empty());
    let action = if named.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
    call.allow_named(bucket, action, Some(key), Some(Permission::Write))?;
    let which = named.map(which).transpose()?;
    let mut conditions = Vec::new();
    if let Some(etag) = &object.e_tag {
        conditions.push(etags(etag.value()).map_or(Condition::Exists, Condition::Etag));
    }
    conditions.extend(object.size.and_then(|size| u64::try_from(size).ok()).map(Condition::Size));
    conditions.extend(
        object.last_modified_time.clone().and_then(millis_of).map(|time| Condition::UnmodifiedSince(time + 999)),
    );
    let mode = if conditions.is_empty() { Mode::Overwrite } else { Mode::Conditional(conditions) };
    delete_one(call, bucket, key, which, mode).await
}

fn write_deleted(xml: &mut Xml, object: &ObjectIdentifier, deleted: &Deleted) {
    xml.open("Deleted").text("Key", &object.key);
    xml.maybe("VersionId", object.version_id.as_deref());
    if deleted.is_marker {
        xml.text("DeleteMarker", "true").maybe("DeleteMarkerVersionId", deleted.version.as_deref());
    }
    xml.close("Deleted");
}

fn write_error(xml: &mut Xml, object: &ObjectIdentifier, error: &S3Error) {
    xml.open("Error").text("Key", &object.key);
    xml.maybe("VersionId", object.version_id.as_deref());
    xml.text("Code", error.code().name()).text("Message", error.message()).close("Error");
}

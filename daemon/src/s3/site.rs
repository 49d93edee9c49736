//! Buckets shown as websites, to hosts below domains of their own: an index for each folder, a page for what isn't there.

use hyper::{Method, StatusCode};
use s3s::dto::WebsiteConfiguration;

use super::answer::{Answer, Out};
use super::bucket::website;
use super::call::Call;
use super::error::{Code, Result, S3Error};
use super::head::Target;
use super::object;
use super::op::Op;

/// Answers a reader of a website.
///
/// # Errors
/// If the bucket is none, or it can't be read.
pub async fn show(mut call: Call) -> Result<Answer> {
    if !matches!(call.head.method, Method::GET | Method::HEAD) {
        return Err(Code::MethodNotAllowed.into());
    }
    call.op = if call.head.method == Method::HEAD { Op::HeadObject } else { Op::GetObject };
    let bucket = call.bucket()?;
    let missing = || S3Error::from(Code::NoSuchWebsiteConfiguration).with("BucketName", bucket.name());
    let site = website::of(&bucket).ok_or_else(missing)?;
    if let Some(all) = &site.redirect_all_requests_to {
        let protocol = all.protocol.as_ref().map_or("http", |protocol| protocol.as_str());
        let location = format!("{protocol}://{}/{}", all.host_name, call.key());
        return Ok(Answer::status(StatusCode::MOVED_PERMANENTLY).with("location", location));
    }
    let asked = call.key().to_owned();
    let suffix = site.index_document.as_ref().map_or("index.html", |index| index.suffix.as_str());
    let is_folder = asked.is_empty() || asked.ends_with('/');
    let key = if is_folder { format!("{asked}{suffix}") } else { asked.clone() };
    let error = match page(&mut call, bucket.name(), &key).await {
        Ok(answer) => return Ok(redirected(answer)),
        Err(error) => error,
    };
    if !is_folder && is_absent(&error) && page(&mut call, bucket.name(), &format!("{asked}/{suffix}")).await.is_ok() {
        return Ok(Answer::status(StatusCode::FOUND).with("location", format!("/{asked}/")));
    }
    failed(call, &site, bucket.name(), error).await
}

async fn page(call: &mut Call, bucket: &str, key: &str) -> Result<Answer> {
    call.head.target = Target::Object(bucket.to_owned(), key.to_owned());
    match call.op {
        Op::HeadObject => object::head(call).await,
        _ => object::get(call).await,
    }
}

fn is_absent(error: &S3Error) -> bool {
    matches!(error.code(), Code::NoSuchKey | Code::AccessDenied)
}

/// An object that says where else to look.
fn redirected(answer: Answer) -> Answer {
    let Some(location) = answer.headers.get("x-amz-website-redirect-location").cloned() else { return answer };
    let mut elsewhere = Answer::status(StatusCode::MOVED_PERMANENTLY);
    elsewhere.headers.insert(hyper::header::LOCATION, location);
    elsewhere
}

/// The page for what can't be shown, under the status that says so.
async fn failed(mut call: Call, site: &WebsiteConfiguration, bucket: &str, error: S3Error) -> Result<Answer> {
    if !error.status().is_client_error() {
        return Err(error);
    }
    let custom = match &site.error_document {
        Some(document) => page(&mut call, bucket, &document.key).await.ok(),
        None => None,
    };
    let plain = || {
        let (code, status) = (error.code().name(), error.status());
        let text =
            format!("<html><head><title>{status}</title></head><body><h1>{status}</h1><p>{code}</p></body></html>\n");
        Answer::of_type("text/html; charset=utf-8", text.into())
    };
    let mut answer = custom.unwrap_or_else(plain);
    answer.status = error.status();
    if call.op == Op::HeadObject {
        answer.body = Out::Empty;
    }
    Ok(answer)
}

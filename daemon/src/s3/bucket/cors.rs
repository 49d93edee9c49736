//! Cross-origin requests: what a bucket lets browsers do.

use hyper::Method;
use s3s::dto::{CORSConfiguration, CORSRule};

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call};
use crate::s3::error::{Code, Result};
use crate::s3::head::Head;
use crate::s3::xml::{read, write};

const DOCUMENT: &str = "cors";
const RULES_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// The rules.
pub fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    bucket.document(DOCUMENT).map(Answer::xml).ok_or_else(|| Code::NoSuchCORSConfiguration.into())
}

/// Replaces the rules.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let rules: CORSConfiguration = read(&document(call, body).await?)?;
    check(&rules)?;
    call.set_document(&bucket, DOCUMENT, Some(&write(&rules))).await?;
    Ok(Answer::ok())
}

/// Removes them.
pub async fn delete(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    call.set_document(&bucket, DOCUMENT, None).await?;
    Ok(Answer::no_content())
}

fn check(rules: &CORSConfiguration) -> Result<()> {
    if rules.cors_rules.is_empty() || rules.cors_rules.len() > RULES_MAX {
        return Err(Code::MalformedXML.into());
    }
    for rule in &rules.cors_rules {
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Err(Code::InvalidRequest.says(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is {}",
                method.as_str()
            )));
        }
        let has_stars = |text: &str| text.matches('*').count() > 1;
        if rule.allowed_origins.iter().any(|origin| has_stars(origin)) {
            return Err(Code::InvalidRequest.says("AllowedOrigin can not have more than one wildcard."));
        }
        if rule.allowed_headers.iter().flatten().any(|header| has_stars(header)) {
            return Err(Code::InvalidRequest.says("AllowedHeader can not have more than one wildcard."));
        }
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(Code::MalformedXML.into());
        }
    }
    Ok(())
}

/// What a browser asks before it asks.
///
/// # Errors
/// `AccessDenied` if the bucket lets it do nothing.
pub fn preflight(bucket: Option<&Bucket>, head: &Head) -> Result<Answer> {
    let denied = |what: &'static str| Code::AccessDenied.says(what);
    let origin = head
        .only("origin")?
        .ok_or_else(|| Code::BadRequest.says("Insufficient information. Origin request header needed."))?;
    let method = head
        .only("access-control-request-method")?
        .ok_or_else(|| Code::BadRequest.says("Invalid Access-Control-Request-Method: null"))?;
    let headers = head.only("access-control-request-headers")?.unwrap_or_default();
    let rules = rules_of(bucket.ok_or(Code::NoSuchBucket)?)
        .ok_or_else(|| denied("CORSResponse: CORS is not enabled for this bucket."))?;
    let asked: Vec<&str> = headers.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let rule = rules
        .cors_rules
        .iter()
        .find(|rule| fits(rule, origin, method) && asked.iter().all(|name| allows_header(rule, name)));
    let rule = rule.ok_or_else(|| denied("CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."))?;
    let answer = said(Answer::ok(), rule, origin).with("access-control-allow-methods", methods(rule));
    Ok(if asked.is_empty() {
        answer
    } else {
        answer.with("access-control-allow-headers", headers.to_ascii_lowercase())
    })
}

/// What the answer to a browser's request says beside.
fn say(answer: Answer, bucket: &Bucket, head: &Head) -> Answer {
    let Ok(Some(origin)) = head.only("origin") else { return answer };
    let Some(rules) = rules_of(bucket) else { return answer };
    let asked = head.header("access-control-request-method").unwrap_or(head.method.as_str());
    let rule = rules.cors_rules.iter().find(|rule| fits(rule, origin, asked));
    match rule {
        Some(rule) => said(answer, rule, origin).with("access-control-allow-methods", methods(rule)),
        None => answer,
    }
}

/// As [`say`], also of an error: a browser shows its page none that doesn't say so.
///
/// # Errors
/// What it was given.
pub fn say_whatever(answer: Result<Answer>, bucket: &Bucket, head: &Head) -> Result<Answer> {
    match answer {
        Ok(answer) => Ok(say(answer, bucket, head)),
        Err(error) => {
            let said = say(Answer::ok(), bucket, head).headers;
            Err(said.iter().fold(error, |error, (name, value)| error.header(name.clone(), value.clone())))
        }
    }
}

/// Whether a request is a browser's question.
pub fn is_preflight(head: &Head) -> bool {
    head.method == Method::OPTIONS
}

fn rules_of(bucket: &Bucket) -> Option<CORSConfiguration> {
    read(bucket.document(DOCUMENT)?.as_bytes()).ok()
}

fn fits(rule: &CORSRule, origin: &str, method: &str) -> bool {
    rule.allowed_methods.iter().any(|allowed| allowed.as_str() == method)
        && rule.allowed_origins.iter().any(|allowed| fits_star(allowed, origin))
}

fn allows_header(rule: &CORSRule, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    rule.allowed_headers.iter().flatten().any(|allowed| fits_star(&allowed.to_ascii_lowercase(), &name))
}

/// Whether a text fits a pattern with one star at most.
fn fits_star(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end),
    }
}

fn methods(rule: &CORSRule) -> String {
    let names: Vec<&str> = rule.allowed_methods.iter().map(String::as_str).collect();
    names.join(", ")
}

fn said(answer: Answer, rule: &CORSRule, origin: &str) -> Answer {
    let is_for_all = rule.allowed_origins.iter().any(|allowed| allowed == "*");
    let answer = if is_for_all {
        answer.with("access-control-allow-origin", "*")
    } else {
        answer.with("access-control-allow-origin", origin).with("access-control-allow-credentials", "true")
    };
    let exposed: Vec<&str> = rule.expose_headers.iter().flatten().map(String::as_str).collect();
    let answer =
        if exposed.is_empty() { answer } else { answer.with("access-control-expose-headers", exposed.join(", ")) };
    let answer = answer.maybe("access-control-max-age", rule.max_age_seconds.map(|seconds| seconds.to_string()));
    answer.with("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
}

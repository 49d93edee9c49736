//! Bucket policies: read strictly, so that nothing is stored whose meaning isn't known here, then asked.
//!
//! | asked | answer |
//! | --- | --- |
//! | some statement that fits says Deny | denied |
//! | some statement that fits says Allow | allowed |
//! | none fits | open: others decide |

use std::net::IpAddr;

use cairn_meta::version::Pair;
use serde_json::{Map, Value};

use crate::s3::auth::Who;
use crate::s3::call::Call;
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};

/// The longest policy, as S3 has it.
pub const POLICY_MAX: usize = 20 << 10;

/// What a statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "S3's words")]
pub enum Effect {
    Allow,
    Deny,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy(Vec<Statement>);

#[derive(Clone, Debug, PartialEq)]
struct Statement {
    effect: Effect,
    principals: Vec<String>,
    actions: Names,
    resources: Names,
    conditions: Vec<Condition>,
}

/// Patterns, of which one fits, or none.
#[derive(Clone, Debug, PartialEq)]
enum Names {
    Any(Vec<String>),
    None(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    test: Test,
    /// Whether it holds when there is nothing to compare.
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equals,
    NotEquals,
    EqualsIgnoreCase,
    NotEqualsIgnoreCase,
    Like,
    NotLike,
    Bool,
    Null,
    Ip,
    NotIp,
    Number(Order),
    Date(Order),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
}

/// What a policy is asked about.
pub struct Asked<'c> {
    /// The request.
    pub call: &'c Call,
    /// The bucket's name.
    pub bucket: &'c str,
    /// What it would do, as `s3:GetObject`.
    pub action: &'c str,
    /// To which key; `None`: to the bucket.
    pub key: Option<&'c str>,
    /// The prefix that would be listed; `None`: the request's own, if it lists.
    pub prefix: Option<&'c str>,
    /// The tags of the object that is there.
    pub tags: &'c [Pair],
}

fn malformed(what: impl Into<String>) -> S3Error {
    Code::MalformedPolicy.says(what.into())
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// `MalformedPolicy`, with what isn't understood.
    pub fn read(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)
            .map_err(|_| malformed("Policies must be valid JSON and the first byte must be '{'"))?;
        let Value::Object(document) = value else {
            return Err(malformed("Policies must be valid JSON and the first byte must be '{'"));
        };
        for name in document.keys() {
            if !matches!(name.as_str(), "Version" | "Id" | "Statement") {
                return Err(malformed(format!("Unknown field {name}")));
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) if !statements.is_empty() => {
                statements.iter().map(Statement::read).collect::<Result<_>>()?
            }
            Some(one @ Value::Object(_)) => vec![Statement::read(one)?],
            _ => return Err(malformed("Missing required field Statement")),
        };
        Ok(Self(statements))
    }

    /// Whether it is about this bucket.
    ///
    /// # Errors
    /// `MalformedPolicy` if some statement is about something else.
    pub fn check_bucket(&self, bucket: &str) -> Result<()> {
        let is_here = |resource: &String| {
            let name = resource
                .strip_prefix("arn:aws:s3:::")
                .map(|rest| rest.split_once('/').map_or(rest, |(bucket, _)| bucket));
            resource == "*" || name.is_some_and(|name| like(name, bucket))
        };
        let all = self.0.iter().flat_map(|statement| match &statement.resources {
            Names::Any(names) | Names::None(names) => names,
        });
        match all.into_iter().find(|resource| !is_here(resource)) {
            Some(_) => Err(malformed("Policy has invalid resource")),
            None => Ok(()),
        }
    }

    /// Whether it allows anything to everybody.
    pub fn is_public(&self) -> bool {
        self.0.iter().any(|one| one.effect == Effect::Allow && one.is_for_all() && !one.is_narrowed())
    }

    /// Whether it asks for the tags of the object that is there.
    pub fn asks_for_tags(&self) -> bool {
        let mut conditions = self.0.iter().flat_map(|statement| &statement.conditions);
        conditions.any(|condition| condition.key.starts_with(TAGS_THERE))
    }

    /// What it says.
    pub fn effect(&self, asked: &Asked<'_>) -> Option<Effect> {
        let fits = |effect| self.0.iter().any(|statement| statement.effect == effect && statement.fits(asked));
        if fits(Effect::Deny) {
            return Some(Effect::Deny);
        }
        fits(Effect::Allow).then_some(Effect::Allow)
    }
}

impl Statement {
    fn read(value: &Value) -> Result<Self> {
        let Value::Object(fields) = value else { return Err(malformed("A statement is an object")) };
        for name in fields.keys() {
            if !matches!(
                name.as_str(),
                "Sid" | "Effect" | "Principal" | "Action" | "NotAction" | "Resource" | "NotResource" | "Condition"
            ) {
                return Err(malformed(format!("{name} is not implemented in policies")));
            }
        }
        let effect = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(malformed("Invalid effect")),
        };
        let actions = names(fields, "Action", "NotAction")?;
        let (Names::Any(all) | Names::None(all)) = &actions;
        if all.iter().any(|action| action != "*" && !action.to_ascii_lowercase().starts_with("s3:")) {
            return Err(malformed("Policy has invalid action"));
        }
        let principals = principals(fields.get("Principal"))?;
        let (resources, conditions) = (names(fields, "Resource", "NotResource")?, conditions(fields.get("Condition"))?);
        Ok(Self { effect, principals, actions, resources, conditions })
    }

    fn is_for_all(&self) -> bool {
        self.principals.iter().any(|one| one == "*")
    }

    /// Whether only some of all may use it, by where they are.
    fn is_narrowed(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| matches!(condition.test, Test::Ip | Test::Equals) && condition.key == "aws:sourceip")
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let resource = match asked.key {
            Some(key) => format!("arn:aws:s3:::{}/{key}", asked.bucket),
            None => format!("arn:aws:s3:::{}", asked.bucket),
        };
        let is_meant = || {
            self.is_for_all()
                || asked.call.who.user().is_some_and(|user| self.principals.iter().any(|one| names_user(one, user)))
        };
        is_meant()
            && self.actions.fit(|pattern| like(&pattern.to_ascii_lowercase(), &asked.action.to_ascii_lowercase()))
            && self.resources.fit(|pattern| like(pattern, &resource))
            && self.conditions.iter().all(|condition| condition.holds(asked))
    }
}

impl Names {
    fn fit(&self, fits: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any(patterns) => patterns.iter().any(|pattern| fits(pattern)),
            Self::None(patterns) => !patterns.iter().any(|pattern| fits(pattern)),
        }
    }
}

/// One text or a list of them.
fn texts(value: &Value, what: &str) -> Result<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(malformed(format!("{what} has a value that is no text"))),
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn names(fields: &Map<String, Value>, any: &str, none: &str) -> Result<Names> {
    match (fields.get(any), fields.get(none)) {
        (Some(value), None) => texts(value, any).map(Names::Any),
        (None, Some(value)) => texts(value, none).map(Names::None),
        (None, None) => Err(malformed(format!("Missing required field {any}"))),
        (Some(_), Some(_)) => Err(malformed(format!("{any} and {none} exclude each other"))),
    }
}

fn principals(value: Option<&Value>) -> Result<Vec<String>> {
    match value {
        Some(Value::String(text)) if text == "*" => Ok(vec!["*".to_owned()]),
        Some(Value::Object(kinds))
            if kinds.keys().all(|kind| kind == "AWS" || kind == "CanonicalUser") && !kinds.is_empty() =>
        {
            let all = kinds.values().map(|names| texts(names, "Principal")).collect::<Result<Vec<_>>>()?;
            Ok(all.concat())
        }
        _ => Err(malformed("Invalid principal in policy")),
    }
}

/// Whether a principal is this user: by its name, or an ARN that ends with it.
fn names_user(principal: &str, user: &str) -> bool {
    if principal == user {
        return true;
    }
    let Some(rest) = principal.strip_prefix("arn:aws:iam::") else { return false };
    let Some((account, who)) = rest.split_once(':') else { return false };
    who.strip_prefix("user/").is_some_and(|name| name == user) || (who == "root" && account == user)
}

fn conditions(value: Option<&Value>) -> Result<Vec<Condition>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Object(tests) = value else { return Err(malformed("Condition is an object")) };
    let mut found = Vec::new();
    for (name, keys) in tests {
        let (plain, if_exists) = name.strip_suffix("IfExists").map_or((name.as_str(), false), |plain| (plain, true));
        let test = test(plain).ok_or_else(|| malformed(format!("Invalid Condition type : {name}")))?;
        let Value::Object(keys) = keys else { return Err(malformed("Condition is an object of objects")) };
        for (key, values) in keys {
            let key = key.to_ascii_lowercase();
            if !is_known(&key) {
                return Err(malformed(format!("Policy has an invalid condition key: {key}")));
            }
            let values = texts(values, &key)?;
            found.push(Condition { test, if_exists, key, values });
        }
    }
    Ok(found)
}

fn test(name: &str) -> Option<Test> {
    let order = |rest: &str| {
        Some(match rest {
            "Equals" => Order::Equals,
            "NotEquals" => Order::NotEquals,
            "LessThan" => Order::Less,
            "LessThanEquals" => Order::LessEquals,
            "GreaterThan" => Order::Greater,
            "GreaterThanEquals" => Order::GreaterEquals,
            _ => return None,
        })
    };
    Some(match name {
        "StringEquals" => Test::Equals,
        "StringNotEquals" => Test::NotEquals,
        "StringEqualsIgnoreCase" => Test::EqualsIgnoreCase,
        "StringNotEqualsIgnoreCase" => Test::NotEqualsIgnoreCase,
        "StringLike" => Test::Like,
        "StringNotLike" => Test::NotLike,
        "Bool" => Test::Bool,
        "Null" => Test::Null,
        "IpAddress" => Test::Ip,
        "NotIpAddress" => Test::NotIp,
        _ => match (name.strip_prefix("Numeric"), name.strip_prefix("Date")) {
            (Some(rest), _) => Test::Number(order(rest)?),
            (None, Some(rest)) => Test::Date(order(rest)?),
            (None, None) => return None,
        },
    })
}

/// Begins keys that ask for a tag of the object that is there.
const TAGS_THERE: &str = "s3:existingobjecttag/";

/// Keys whose values are known here, in small letters.
fn is_known(key: &str) -> bool {
    const KEYS: &[&str] = &[
        "aws:currenttime",
        "aws:referer",
        "aws:securetransport",
        "aws:sourceip",
        "aws:useragent",
        "aws:username",
        "s3:delimiter",
        "s3:max-keys",
        "s3:prefix",
        "s3:signatureversion",
        "s3:versionid",
    ];
    KEYS.contains(&key)
        || key.starts_with("s3:x-amz-")
        || key.starts_with("s3:requestobjecttag/")
        || key.starts_with(TAGS_THERE)
}

impl Condition {
    fn holds(&self, asked: &Asked<'_>) -> bool {
        let value = value_of(&self.key, asked);
        if self.test == Test::Null {
            return self.values.iter().any(|wanted| (wanted == "true") == value.is_none());
        }
        let is_negative = matches!(
            self.test,
            Test::NotEquals
                | Test::NotEqualsIgnoreCase
                | Test::NotLike
                | Test::NotIp
                | Test::Number(Order::NotEquals)
                | Test::Date(Order::NotEquals)
        );
        let Some(value) = value else { return self.if_exists || is_negative };
        let any = self.values.iter().any(|wanted| self.test.fits(&value, wanted));
        any != is_negative
    }
}

impl Test {
    /// Whether a value fits; of negative tests whether it fits what they deny.
    fn fits(self, value: &str, wanted: &str) -> bool {
        match self {
            Self::Equals | Self::NotEquals => value == wanted,
            Self::EqualsIgnoreCase | Self::NotEqualsIgnoreCase | Self::Bool => value.eq_ignore_ascii_case(wanted),
            Self::Like | Self::NotLike => like(wanted, value),
            Self::Ip | Self::NotIp => is_within(value, wanted),
            Self::Number(order) => compare(order, value.parse::<f64>().ok(), wanted.parse::<f64>().ok()),
            Self::Date(order) => compare(order, date::read_iso(value), date::read_iso(wanted)),
            Self::Null => false,
        }
    }
}

fn compare<T: PartialOrd>(order: Order, value: Option<T>, wanted: Option<T>) -> bool {
    let (Some(value), Some(wanted)) = (value, wanted) else { return false };
    match order {
        Order::Equals | Order::NotEquals => value == wanted,
        Order::Less => value < wanted,
        Order::LessEquals => value <= wanted,
        Order::Greater => value > wanted,
        Order::GreaterEquals => value >= wanted,
    }
}

/// Whether an address lies in a network, as `10.0.0.0/8`.
fn is_within(address: &str, network: &str) -> bool {
    let (base, bits) = network.split_once('/').map_or((network, None), |(base, bits)| (base, Some(bits)));
    let (Ok(address), Ok(base)) = (address.parse::<IpAddr>(), base.parse::<IpAddr>()) else { return false };
    let (address, base, width) = match (address.to_canonical(), base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => (u128::from(u32::from(address)), u128::from(u32::from(base)), 32),
        (IpAddr::V6(address), IpAddr::V6(base)) => (u128::from(address), u128::from(base), 128),
        _ => return false,
    };
    let Some(bits) = bits.map_or(Some(width), |bits| bits.parse::<u32>().ok().filter(|bits| *bits <= width)) else {
        return false;
    };
    let shift = width - bits;
    shift == 128 || address >> shift == base >> shift
}

fn value_of(key: &str, asked: &Asked<'_>) -> Option<String> {
    let call = asked.call;
    let header = |name: &str| call.head.header(name).map(str::to_owned);
    let param = |name: &str| call.head.query.get(name).map(str::to_owned);
    match key {
        "aws:currenttime" => Some(date::iso(call.now)),
        "aws:referer" => header("referer"),
        "aws:securetransport" => Some("false".to_owned()),
        "aws:sourceip" => Some(call.from.ip().to_canonical().to_string()),
        "aws:useragent" => header("user-agent"),
        "aws:username" => call.who.user().map(str::to_owned),
        "s3:delimiter" => param("delimiter"),
        "s3:max-keys" => param("max-keys"),
        "s3:prefix" => asked.prefix.map(str::to_owned).or_else(|| param("prefix")),
        "s3:signatureversion" => match &call.who {
            Who::User { signed, .. } => Some(signed.name().to_owned()),
            Who::Anonymous => None,
        },
        "s3:versionid" => param("versionId"),
        _ => {
            if let Some(tag) = key.strip_prefix("s3:requestobjecttag/") {
                return tag_of(call, tag);
            }
            if let Some(tag) = key.strip_prefix(TAGS_THERE) {
                let found = asked.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(tag));
                return found.map(|(_, value)| value.clone());
            }
            key.strip_prefix("s3:").and_then(header)
        }
    }
}

/// A tag that the request puts, whose name in the key was made small.
fn tag_of(call: &Call, tag: &str) -> Option<String> {
    let text = call.head.header("x-amz-tagging")?;
    let tags = crate::s3::uri::Query::parse(text).ok()?;
    tags.pairs().iter().find(|(name, _)| name.eq_ignore_ascii_case(tag)).map(|(_, value)| value.clone())
}

/// Whether a text fits a pattern, in which `*` stands for anything and `?` for one byte.
pub fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of + 1, at));
                of += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                at += 1;
                of += 1;
            }
            _ => {
                // The last star takes one byte more.
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (of, at) = (behind, taken + 1);
            }
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_they_should() {
        let cases = [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*b", "abab", true),
            ("s3:get*", "s3:getobject", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn addresses_lie_in_networks() {
        let cases = [
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("::1", "::/0", true),
            ("::1", "10.0.0.0/8", false),
            ("10.1.2.3", "10.0.0.0/33", false),
        ];
        for (address, network, expected) in cases {
            assert_eq!(is_within(address, network), expected, "{address} {network}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let policy =
            |statement: &str| Policy::read(&format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}"));
        let usual = r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*""#;
        assert!(policy(&format!("{{{usual}}}")).unwrap().is_public());
        assert!(policy(&format!("{{{usual}}}")).unwrap().check_bucket("b").is_ok());
        assert!(policy(&format!("{{{usual}}}")).unwrap().check_bucket("c").is_err());
        for bad in [
            r#"{"Effect":"Allow"}"#.to_owned(),
            usual.replace("Allow", "Maybe"),
            usual.replace("Principal", "NotPrincipal"),
            usual.replace("s3:GetObject", "ec2:Run"),
            format!(r#"{{{usual},"Condition":{{"StringSounds":{{"s3:prefix":"a"}}}}}}"#),
            format!(r#"{{{usual},"Condition":{{"StringEquals":{{"s3:moon":"a"}}}}}}"#),
            format!(r#"{{{usual},"Else":1}}"#),
        ] {
            assert_eq!(policy(&bad).unwrap_err().code(), Code::MalformedPolicy, "{bad}");
        }
    }
}

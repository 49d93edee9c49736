//! Access control lists: canned ones, grants in headers, and the XML. Kept as a short text.

use s3s::dto::AccessControlPolicy;

use crate::cluster::Map;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::Head;
use crate::s3::uri::{Slash, decode, encode};
use crate::s3::xml::Xml;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
/// S3's bound.
const GRANTS_MAX: usize = 100;

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "S3's words")]
pub enum Permission {
    Read,
    Write,
    ReadAcp,
    WriteAcp,
    FullControl,
}

impl Permission {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp, Self::FullControl];

    /// As S3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
            Self::FullControl => "FULL_CONTROL",
        }
    }

    fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The header that grants it.
    fn header(self) -> &'static str {
        match self {
            Self::Read => "x-amz-grant-read",
            Self::Write => "x-amz-grant-write",
            Self::ReadAcp => "x-amz-grant-read-acp",
            Self::WriteAcp => "x-amz-grant-write-acp",
            Self::FullControl => "x-amz-grant-full-control",
        }
    }
}

/// To whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// A user.
    User(String),
    /// Everybody.
    All,
    /// Every user.
    Authenticated,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// Whose the bucket or object is.
    pub owner: String,
    /// Who may do what.
    pub grants: Vec<(Grantee, Permission)>,
}

/// Grants that don't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignore {
    /// All count.
    Nothing,
    /// Those to everybody.
    Public,
    /// None counts.
    All,
}

impl Acl {
    /// Only its owner may do anything.
    pub fn private(owner: &str) -> Self {
        Self { owner: owner.to_owned(), grants: vec![(Grantee::User(owner.to_owned()), Permission::FullControl)] }
    }

    /// Whether a user, or nobody (`None`), is granted this.
    pub fn grants(&self, user: Option<&str>, wanted: Permission, ignore: Ignore) -> bool {
        let counts = |grantee: &Grantee| match grantee {
            _ if ignore == Ignore::All => false,
            Grantee::User(name) => user == Some(name),
            Grantee::All => ignore == Ignore::Nothing,
            Grantee::Authenticated => ignore == Ignore::Nothing && user.is_some(),
        };
        let fits = |permission: Permission| permission == wanted || permission == Permission::FullControl;
        self.grants.iter().any(|(grantee, permission)| fits(*permission) && counts(grantee))
    }

    /// Whether it grants anything to more than some users.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|(grantee, _)| !matches!(grantee, Grantee::User(_)))
    }

    /// A canned list of this owner's, in a bucket of that one's.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn canned(name: &str, owner: &str, bucket_owner: &str) -> Result<Self> {
        use Permission::{FullControl, Read, Write};
        let mut acl = Self::private(owner);
        match name {
            "public-read" => acl.grants.push((Grantee::All, Read)),
            "public-read-write" => acl.grants.extend([(Grantee::All, Read), (Grantee::All, Write)]),
            "authenticated-read" => acl.grants.push((Grantee::Authenticated, Read)),
            "private" => {}
            // It has all rights anyway.
            "bucket-owner-read" | "bucket-owner-full-control" if owner == bucket_owner => {}
            "bucket-owner-read" => acl.grants.push((Grantee::User(bucket_owner.to_owned()), Read)),
            "bucket-owner-full-control" => acl.grants.push((Grantee::User(bucket_owner.to_owned()), FullControl)),
            _ => return Err(S3Error::argument("x-amz-acl", name, "")),
        }
        Ok(acl)
    }

    /// The list that a request's headers state; `None`: they state none.
    ///
    /// # Errors
    /// If they can't be meant.
    pub fn of_headers(head: &Head, map: &Map, owner: &str, bucket_owner: &str) -> Result<Option<Self>> {
        let canned = head.only("x-amz-acl")?;
        let mut grants = Vec::new();
        for permission in Permission::ALL {
            let Some(text) = head.only(permission.header())? else { continue };
            for grantee in text.split(',') {
                grants.push((grantee_of_header(grantee, map)?, permission));
            }
        }
        match canned {
            Some(_) if !grants.is_empty() => {
                Err(Code::InvalidRequest.says("Specifying both Canned ACLs and Header Grants is not allowed"))
            }
            Some(name) => Self::canned(name, owner, bucket_owner).map(Some),
            None if grants.is_empty() => Ok(None),
            None => Self { owner: owner.to_owned(), grants }.bounded().map(Some),
        }
    }

    /// The list of a document, which may not change the owner.
    ///
    /// # Errors
    /// `MalformedACLError`, or if a grantee isn't known.
    pub fn of_xml(policy: &AccessControlPolicy, map: &Map, owner: &str) -> Result<Self> {
        let stated = policy.owner.as_ref().and_then(|owner| owner.id.as_deref());
        match stated {
            None => return Err(Code::MalformedACLError.into()),
            Some(stated) if stated != owner => return Err(Code::AccessDenied.into()),
            Some(_) => {}
        }
        let mut grants = Vec::new();
        for grant in policy.grants.iter().flatten() {
            let grantee = grant.grantee.as_ref().ok_or(Code::MalformedACLError)?;
            let permission = grant
                .permission
                .as_ref()
                .and_then(|name| Permission::find(name.as_str()))
                .ok_or(Code::MalformedACLError)?;
            let grantee = match (grantee.uri.as_deref(), grantee.id.as_deref(), grantee.email_address.as_deref()) {
                (Some(uri), ..) => group(uri)?,
                (None, Some(id), _) => user(id, map)?,
                (None, None, Some(email)) => return Err(no_email(email)),
                (None, None, None) => return Err(Code::MalformedACLError.into()),
            };
            grants.push((grantee, permission));
        }
        Self { owner: owner.to_owned(), grants }.bounded()
    }

    fn bounded(self) -> Result<Self> {
        if self.grants.len() > GRANTS_MAX { Err(Code::MalformedACLError.into()) } else { Ok(self) }
    }

    /// As it is kept: the owner, then each grant.
    pub fn text(&self) -> String {
        let mut text = encode(&self.owner, Slash::Encoded);
        for (grantee, permission) in &self.grants {
            let grantee = match grantee {
                Grantee::All => "*".to_owned(),
                Grantee::Authenticated => "+".to_owned(),
                Grantee::User(name) => encode(name, Slash::Encoded),
            };
            text.extend([",", &grantee, ":", permission.name()]);
        }
        text
    }

    /// Reads what is kept; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let owner = decode(parts.next()?).ok()?.into_owned();
        let grants = parts.map(|part| {
            let (grantee, permission) = part.split_once(':')?;
            let grantee = match grantee {
                "*" => Grantee::All,
                "+" => Grantee::Authenticated,
                name => Grantee::User(decode(name).ok()?.into_owned()),
            };
            Some((grantee, Permission::find(permission)?))
        });
        Some(Self { owner, grants: grants.collect::<Option<_>>()? })
    }

    /// As it is answered.
    pub fn to_xml(&self) -> String {
        let mut xml = Xml::root("AccessControlPolicy");
        owner(&mut xml, "Owner", &self.owner);
        xml.open("AccessControlList");
        // Groups first: some clients sort what they get by names, if the first has one.
        let (users, groups): (Vec<_>, Vec<_>) =
            self.grants.iter().partition(|(grantee, _)| matches!(grantee, Grantee::User(_)));
        for (grantee, permission) in groups.into_iter().chain(users) {
            xml.open("Grant");
            match grantee {
                Grantee::User(name) => {
                    xml.raw(
                        "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">",
                    );
                    xml.text("ID", name).text("DisplayName", name);
                }
                Grantee::All | Grantee::Authenticated => {
                    xml.raw("<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\">");
                    xml.text("URI", if *grantee == Grantee::All { ALL_USERS } else { AUTHENTICATED });
                }
            }
            xml.close("Grantee").text("Permission", permission.name()).close("Grant");
        }
        xml.close("AccessControlList");
        xml.end("AccessControlPolicy")
    }
}

/// A user in a document.
pub fn owner(xml: &mut Xml, element: &str, name: &str) {
    xml.open(element).text("ID", name).text("DisplayName", name).close(element);
}

fn group(uri: &str) -> Result<Grantee> {
    match uri {
        ALL_USERS => Ok(Grantee::All),
        AUTHENTICATED => Ok(Grantee::Authenticated),
        _ => Err(S3Error::argument("uri", uri, "Invalid group uri")),
    }
}

fn user(id: &str, map: &Map) -> Result<Grantee> {
    match map.user(id) {
        Some(_) => Ok(Grantee::User(id.to_owned())),
        None => Err(S3Error::argument("CanonicalUser/ID", id, "Invalid id")),
    }
}

/// Users have no email addresses here.
fn no_email(email: &str) -> S3Error {
    S3Error::from(Code::UnresolvableGrantByEmailAddress).with("EmailAddress", email)
}

fn grantee_of_header(text: &str, map: &Map) -> Result<Grantee> {
    let (kind, value) = text
        .trim()
        .split_once('=')
        .ok_or_else(|| S3Error::argument("x-amz-grant", text, "Argument format not recognized"))?;
    let value = value.trim().trim_matches('"');
    match kind.trim() {
        "uri" => group(value),
        "id" => user(value, map),
        "emailAddress" => Err(no_email(value)),
        _ => Err(S3Error::argument("x-amz-grant", text, "Argument format not recognized")),
    }
}

#[test]
fn lists_are_kept_and_read_back() {
    let acl = Acl {
        owner: "a,nn".to_owned(),
        grants: vec![
            (Grantee::User("b:ob".to_owned()), Permission::ReadAcp),
            (Grantee::All, Permission::Read),
            (Grantee::Authenticated, Permission::Write),
        ],
    };
    assert_eq!(Acl::read(&acl.text()), Some(acl));
    assert_eq!(Acl::read("a,b"), None);
    assert_eq!(Acl::read("a,b:NOTHING"), None);
}

#[test]
fn grants_count_for_whom_they_are() {
    let acl = |name| Acl::canned(name, "ann", "bob").unwrap();
    let read = |name, user| acl(name).grants(user, Permission::Read, Ignore::Nothing);
    assert!(read("private", Some("ann")) && !read("private", Some("bob")) && !read("private", None));
    assert!(read("public-read", None) && !acl("public-read").grants(None, Permission::Write, Ignore::Nothing));
    assert!(read("authenticated-read", Some("eve")) && !read("authenticated-read", None));
    assert!(read("bucket-owner-read", Some("bob")));
    assert!(!acl("public-read").grants(None, Permission::Read, Ignore::Public));
    assert!(acl("public-read").grants(Some("ann"), Permission::Read, Ignore::Public));
    assert!(Acl::canned("other", "ann", "bob").is_err());
}

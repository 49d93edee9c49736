//! Operations on objects.

mod acl;
mod attributes;
mod checks;
mod condition;
mod content;
mod copy;
mod delete;
mod get;
mod lock;
mod put;
mod range;
mod tag;

pub use acl::{get_acl, put_acl, stated as stated_acl};
pub use attributes::attributes;
pub use checks::Checks;
pub use condition::write_mode;
pub use content::{META, is_kept, of_request, stated_headers};
pub use copy::{Origin, copy, origin, payload_chunks};
pub use delete::{delete, delete_many};
pub use get::{get, head, quoted};
pub use lock::{get_hold, get_retention, lock_of_request, put_hold, put_retention};
pub use put::{put, put_body, written};
pub use range::Range;
pub use tag::{delete_tags, get_tags, put_tags, tags_of_header, tags_of_xml, tags_xml};

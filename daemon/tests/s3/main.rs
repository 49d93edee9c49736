//! The S3 gateway over real files and sockets: what clients that mean well do, and what others do.

mod access;
mod client;
mod copy;
mod docs;
mod full;
mod hostile;
mod lock;
mod multipart;
mod node;
mod objects;
mod settings;
mod signatures;
mod slow;
mod versions;

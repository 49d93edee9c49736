//! A cluster of one, on real files: buckets, objects and lists, and all of it again after a restart.

mod alone;
mod place;

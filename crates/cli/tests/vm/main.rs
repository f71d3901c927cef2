//! Virtual machines from the outside.

mod kernel;
